"""Compares methods by repeated stratified cross-validation, with the same folds, starts and networks for all methods.

On sets of a few hundred graphs a single split says little: on MUTAG's 19 test graphs a method may gain ten points by
luck. Scores of overlapping training sets are not independent. The interval of a paired difference is therefore widened
as Nadeau and Bengio (Machine Learning, 2003) showed: its variance is (1/J + test/train) s², with J differences.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from attar.core import engine as core
from attar.core import store
from attar.core.errors import InputError
from attar.core.launcher import check_shared
from attar.core.prepared import Prepared
from attar.core.progress import Line, as_text
from attar.core.runtime import Engine, Runtime
from attar.core.score import Interval, Score, around
from attar.core.seeds import derived_seed
from attar.core.settings import difference
from attar.graphs.artefact import CondensedGraphs
from attar.graphs.networks import network_named
from attar.graphs.protocols import Protocol, protocol_named
from attar.graphs.sources import GraphSource
from attar.graphs.together import train_on_condensed
from attar.graphs.trained import trained

Correction = Literal["nadeau-bengio", "none"]
When = Literal["last", "chosen"]
WHOLE = "whole set"


@dataclass(frozen=True)
class Row:
    """The results of one method on all folds of all repeats, in the order of the folds."""

    method: str
    chosen: tuple[float, ...]
    """Test scores, in per cent, at the epochs with the best validation scores."""
    last: tuple[float, ...]
    """Test scores at the last epochs."""
    seconds: float
    """Mean time to condense one set, in seconds."""
    bytes: float
    """Mean size of one set, in bytes."""

    def scores(self, when: When) -> tuple[float, ...]:
        """The scores of the last or of the chosen epochs."""
        return self.last if when == "last" else self.chosen


@dataclass(frozen=True)
class CrossValidation:
    """The results of a comparison."""

    source: str
    rows: tuple[Row, ...]
    folds: int
    repeats: int
    network: str
    protocol: str
    correction: Correction
    test_to_train: float
    """Number of test graphs of a fold divided by that of its training graphs."""

    def row(self, method: str) -> Row:
        """The row of a method."""
        return next(row for row in self.rows if row.method == method)

    def gain(self, method: str, over: str, when: When = "last") -> Interval:
        """The mean difference between the scores of a method and another, fold by fold, with its interval."""
        ratio = self.test_to_train if self.correction == "nadeau-bengio" else 0.0
        return corrected_interval(self.row(method).scores(when), self.row(over).scores(when), ratio)

    def best_rival(self, method: str, when: When = "last") -> str:
        """The other method with the highest mean. A network trained on the whole set does not count."""
        others = [row for row in self.rows if row.method not in (method, WHOLE)]
        return max(others, key=lambda row: statistics.fmean(row.scores(when))).method

    def __str__(self) -> str:
        from rich.table import Table

        first = self.rows[0].method
        title = f"{self.source}: {self.repeats} × {self.folds} folds, {self.network}, {self.protocol} protocol"
        table = Table(title=title, title_justify="left")
        for column in (
            "method",
            "last epoch",
            "chosen epoch",
            f"last, minus {first}",
            f"chosen, minus {first}",
            "s",
            "kB",
        ):
            table.add_column(column, justify="left" if column == "method" else "right")
        for row in self.rows:
            gains = [
                str(self.gain(row.method, first, when)) if row.method != first else "" for when in ("last", "chosen")
            ]
            means = [Score.of(values).number for values in (row.last, row.chosen)]
            table.add_row(row.method, *means, *gains, f"{row.seconds:.1f}", f"{row.bytes / 1000:.1f}")
        return as_text(table)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, with each method's gain over the first method."""
        first = self.rows[0].method
        rows = [
            {
                **dataclasses.asdict(row),
                "gain_last": dataclasses.asdict(self.gain(row.method, first)),
                "gain_chosen": dataclasses.asdict(self.gain(row.method, first, "chosen")),
            }
            for row in self.rows
        ]
        return {**dataclasses.asdict(self), "rows": rows}


def corrected_interval(first: Sequence[float], second: Sequence[float], test_to_train: float) -> Interval:
    """The mean paired difference `first` - `second`, with the 95 % interval of Nadeau and Bengio's corrected t test.

    Args:
        first: Scores of one method by fold.
        second: Scores of the other method for the same folds.
        test_to_train: Number of test graphs divided by that of training graphs; 0 gives Student's interval.

    Raises:
        ValueError: The two have different numbers of scores.
    """
    gaps = [one - other for one, other in zip(first, second, strict=True)]
    mean = statistics.fmean(gaps)
    if len(gaps) == 1:
        return Interval(mean, -math.inf, math.inf)
    error = statistics.stdev(gaps) * math.sqrt(1 / len(gaps) + test_to_train)
    return around(mean, error, len(gaps) - 1)


def cross_validate(
    methods: Mapping[str, Any] | Sequence[Any],
    source: GraphSource,
    *,
    folds: int = 10,
    repeats: int = 3,
    network: str = "gcn",
    protocol: str | Protocol = "field",
    whole: bool = False,
    correction: Correction = "nadeau-bengio",
    seed: int = 0,
    out: str | Path | None = None,
    keep: bool = False,
    engine: Engine | None = None,
    say: Callable[[str], None] | None = None,
) -> CrossValidation:
    """Condense every fold by every method, train a network on each set, and compare.

    Args:
        methods: Settings of the methods, as a list or by their names in the table. The others are compared with the
            first, for example `GraphStart`.
        source: The graphs. The source's own split is not used.
        folds: Number of folds: one for testing, one for validation, the rest are condensed.
        repeats: Number of times that the graphs are dealt into folds.
        network: The network that is trained, in words.
        protocol: The protocol of training.
        whole: Whether networks are also trained on the whole training folds.
        correction: The correction of the interval for overlapping folds.
        seed: Seed of the first repeat. The other repeats take the following seeds.
        out: Folder for every finished set and score, from which the same call resumes.
        keep: Whether condensed sets are kept after they have been scored.
        engine: Settings of the machine.
        say: Called with messages about the progress.

    Raises:
        InputError: Settings are unusable, `out` holds another comparison, or several processes were started.
    """
    check_shared(None, "a cross-validation")
    named = dict(methods) if isinstance(methods, Mapping) else {method.name: method for method in methods}
    if not named:
        raise InputError("there is no method to compare; give one or more.")
    how, folder = protocol_named(protocol), Path(out) if out is not None else None
    asked = {"content": source.content, "folds": folds, "network": network, "protocol": how.to_json()}
    seeds = [seed + repeat for repeat in range(repeats)]
    rows = []
    for name, method in [*named.items(), *([(WHOLE, None)] if whole else [])]:
        parts = []
        for number in seeds:
            place = folder / name.replace(" ", "-") / f"seed{number}" if folder else None
            told = {**asked, "seed": number, "method": method.to_json() if method else WHOLE}
            runtime = Runtime(engine, number, say=say)
            runtime.say(f"{source.name} · {name} · seed {number}")
            measure = partial(_one_repeat, method, source, folds, network, how, runtime, place)
            parts.append(_remembered(place, told, measure))
            if place is not None and not keep:
                for fold in range(folds):
                    store.remove(place / f"fold{fold}")
        rows.append(_row(name, parts))
    tested = source.fold(0, folds=folds, seed=seed)
    ratio = len(tested.rows[2]) / len(tested.rows[0])
    return CrossValidation(source.name, tuple(rows), folds, repeats, network, how.name, correction, ratio)


def _one_repeat(
    method: Any, source: GraphSource, folds: int, network: str, protocol: Protocol, runtime: Runtime, place: Path | None
) -> dict[str, Any]:
    """Condense every fold and train a network on each: scores, seconds and bytes by fold."""
    parts = [source.fold(fold, folds=folds, seed=runtime.seed) for fold in range(folds)]
    seeds = [derived_seed(runtime.seed, f"fold {fold}") for fold in range(folds)]
    kind = network_named(network)
    if method is None:
        whole = [trained(part, kind, protocol, runtime, seed=own) for part, own in zip(parts, seeds, strict=True)]
        outcomes, seconds, sizes = [one.outcome for one in whole], [0.0] * folds, [part.bytes for part in parts]
    else:
        made = [
            _condensed(method, part, runtime, place / f"fold{i}" if place else None) for i, part in enumerate(parts)
        ]
        sets, seconds = [small for small, _ in made], [took for _, took in made]
        jobs, quiet = list(zip(sets, parts, strict=True)), runtime.engine.quiet
        with Line(f"{network} on {method.name}", folds * protocol.epochs, quiet=quiet) as line:
            outcomes = train_on_condensed(jobs, kind, protocol, seeds, runtime, watch=line.at)
        sizes = [small.bytes for small in sets]
    return {
        "chosen": [outcome.chosen for outcome in outcomes],
        "last": [outcome.last for outcome in outcomes],
        "seconds": seconds,
        "bytes": sizes,
    }


def _condensed(method: Any, source: GraphSource, runtime: Runtime, place: Path | None) -> tuple[CondensedGraphs, float]:
    """Condense a set; return it with the seconds that this took, with those of networks beside it."""
    began, own = time.monotonic(), runtime.with_seed(runtime.seed)
    own.prepared = Prepared()
    resolved = method.resolve(source, own)
    small: CondensedGraphs = core.run(resolved, source, own, out=place)
    if place is None:
        return small, time.monotonic() - began - own.prepared.aside + own.prepared.seconds
    return small, float(store.read_json(place / "run" / "cost.json")["seconds"])


def _remembered(place: Path | None, told: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The stored measurements of an earlier, equal call; otherwise measure now and store."""
    if place is None:
        return measure()
    file = place / "scores.json"
    if file.exists():
        kept: dict[str, Any] = store.read_json(file)
        there = kept["asked"] | {"protocol": Protocol.from_json(kept["asked"]["protocol"]).to_json()}
        changes = difference(there, told)
        if changes:
            raise InputError(f"{file} holds another comparison ({'; '.join(changes)}). Choose another --out.")
        return kept
    store.make_folder(place)
    found = {"asked": told, **measure()}
    store.write_json(file, found)
    return found


def _row(name: str, parts: Sequence[dict[str, Any]]) -> Row:
    def together(key: str) -> list[float]:
        return [value for part in parts for value in part[key]]

    chosen, last = tuple(together("chosen")), tuple(together("last"))
    return Row(name, chosen, last, statistics.fmean(together("seconds")), statistics.fmean(together("bytes")))
