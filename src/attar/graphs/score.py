"""How good a condensed set of graphs is: fresh networks trained on it and tested, once, on real test graphs.

Every set is tested on the split it was made with, so that it has never seen what it is tested on. Two numbers stand
side by side: the test score at the epoch with the best validation score, as the field prints it, though the validation
graphs outnumber the condensed ones; and the test score at the last epoch, which needs no other labels.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from attar.core import store
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score, Spread, kept
from attar.core.seeds import derived_seed
from attar.graphs.artefact import CondensedGraphs
from attar.graphs.networks import Architecture, network_named
from attar.graphs.sources import GraphSource
from attar.graphs.training import Protocol, protocol_named, train_on_condensed, trained

When = Literal["auto", "run", "skip"]
Values = tuple[tuple[float, ...], ...]

LONG = 600.0
"""Seconds above which nothing is started unasked."""


@dataclass(frozen=True)
class NetworkScore:
    """What one kind of network learns from a condensed set."""

    network: str
    protocol: str
    metric: str
    score: Score
    """At the epoch with the best validation score, over all sets and networks."""
    last: Score
    """At the last epoch."""
    spread: Spread
    """Of the last epoch's, between sets apart from between networks."""
    values: Values
    """The chosen epoch's by set and network; the i-th network comes from the same seed whatever the set."""
    last_values: Values
    """The last epoch's."""
    full: Score | None
    """The same networks trained on all training graphs, at the last epoch, where that is known."""
    chance: float
    """What always guessing the largest class gets."""

    @property
    def kept(self) -> float | None:
        """The last epoch's score over that of all the data, in per cent."""
        return None if self.full is None else kept(self.last, self.full)

    @property
    def kept_above_chance(self) -> float | None:
        """The same, counted from what guessing gives; None where all the data does not get above it either."""
        if self.full is None or self.full.value <= self.chance:
            return None
        return kept(self.last, self.full, chance=self.chance)

    def of_set(self, index: int) -> "NetworkScore":
        """The same of one of the sets."""
        values, last = (self.values[index],), (self.last_values[index],)
        return dataclasses.replace(
            self,
            score=_score(values, self.metric),
            last=_score(last, self.metric),
            spread=Spread.of(last),
            values=values,
            last_values=last,
        )

    def to_json(self) -> dict[str, object]:
        """Plain values, with what was kept."""
        return {**dataclasses.asdict(self), "kept": self.kept, "kept_above_chance": self.kept_above_chance}


@dataclass(frozen=True)
class Evaluation:
    """The scores of a condensed set, or of several by the same method, one per kind of network, with their cost."""

    networks: tuple[NetworkScore, ...]
    graphs: int
    bytes: int
    full_graphs: int
    full_bytes: int
    seconds: float
    """Spent on training and testing."""
    condensing_seconds: float | None = None
    """Spent on condensing one set, where its run is at hand."""

    def __str__(self) -> str:
        lines = [line for network in self.networks for line in self._lines(network)]
        share = 100 * self.bytes / self.full_bytes
        cost = f"{self.bytes:,} bytes, {share:.2g} % of the full set; "
        if self.condensing_seconds is not None:
            cost += f"condensed in {self.condensing_seconds:,.1f} s, "
        return "\n".join([*lines, f"{cost}scored in {self.seconds:,.1f} s"])

    def of_set(self, index: int) -> "Evaluation":
        """The same of one of the sets."""
        return dataclasses.replace(self, networks=tuple(network.of_set(index) for network in self.networks))

    def _lines(self, row: NetworkScore) -> list[str]:
        sets, networks = len(row.values), sum(map(len, row.values))
        of = f"{networks} networks" + (f" on {sets} sets" if sets > 1 else "")
        line = f"{row.network}: {row.last} at the last epoch from {self.graphs:,} graphs"
        if row.full is not None:
            line += f"; all {self.full_graphs:,}: {row.full}; kept {row.kept:.1f} %"
            if row.kept_above_chance is not None:
                line += f", above chance {row.kept_above_chance:.1f} %"
        return [
            f"{line} ({row.metric}, {row.protocol} protocol, {of})",
            f"  at the epoch with the best validation score: {row.score}; always guessing: {row.chance:.1f}",
        ]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {**dataclasses.asdict(self), "networks": [network.to_json() for network in self.networks]}


def evaluate(
    small: CondensedGraphs | Sequence[CondensedGraphs],
    source: GraphSource,
    *,
    networks: Sequence[str | Architecture] = ("gcn",),
    repeats: int = 5,
    protocol: str | Protocol = "field",
    ceiling: When = "auto",
    seed: int = 0,
    engine: Engine | None = None,
    say: Callable[[str], None] | None = None,
) -> Evaluation:
    """Train fresh networks on a condensed set and test them on real test graphs.

    Args:
        small: The condensed set, or several by the same method with other seeds, each tested on its own split.
        source: The data it was condensed from; how it is split here does not matter.
        networks: Names (`gcn`, `gin`, `gat`, `sage`, `gcn:pooling=sum,width=64`) or architectures.
        repeats: Networks of each kind on each set.
        protocol: How they are trained: a name of `PROTOCOLS`, or a protocol.
        ceiling: What to do about the score of all the data: `auto` takes it from the cache, or trains when that takes
            less than ten minutes; `run` trains in any case; `skip` leaves it out.
        seed: The repeats' seeds come from it, the same for every set.
        engine: How to use the machine.
        say: Told what happens.

    Raises:
        InputError: Unknown network or protocol, or a set of other classes or features than the source.
    """
    sets = [small] if isinstance(small, CondensedGraphs) else list(small)
    if repeats < 1:
        raise InputError(f"repeats is {repeats}; it must be at least 1.")
    protocol, runtime, start = protocol_named(protocol), Runtime(engine, seed, say=say), time.perf_counter()
    sources = [_own_split(one, source, runtime) for one in _checked(sets, source)]
    kinds = [network_named(network) if isinstance(network, str) else network for network in networks]
    names = [network if isinstance(network, str) else network.kind for network in networks]
    rows = tuple(
        _one_kind(name, kind, list(zip(sets, sources, strict=True)), protocol, repeats, ceiling, runtime)
        for name, kind in zip(names, kinds, strict=True)
    )
    first, seconds = sets[0], time.perf_counter() - start
    sizes = (len(first), first.bytes, first.origin.full_graphs, first.origin.full_bytes)
    return Evaluation(rows, *sizes, round(seconds, 3), _condensing_seconds(sets))


def _one_kind(
    name: str,
    kind: Architecture,
    sets: Sequence[tuple[CondensedGraphs, GraphSource]],
    protocol: Protocol,
    repeats: int,
    ceiling: When,
    runtime: Runtime,
) -> NetworkScore:
    seeds = [derived_seed(runtime.seed, f"repeat {repeat}") for repeat in range(repeats)]
    jobs = [pair for pair in sets for _ in seeds]
    found = train_on_condensed(jobs, kind, protocol, seeds * len(sets), runtime)
    by_set = [found[start : start + repeats] for start in range(0, len(found), repeats)]
    chosen = tuple(tuple(outcome.chosen for outcome in outcomes) for outcomes in by_set)
    last = tuple(tuple(outcome.last for outcome in outcomes) for outcomes in by_set)
    source = sets[0][1]
    full = full_score(source, kind, protocol, seeds, ceiling, runtime)
    return NetworkScore(
        network=name,
        protocol=protocol.name,
        metric=source.metric,
        score=_score(chosen, source.metric),
        last=_score(last, source.metric),
        spread=Spread.of(last),
        values=chosen,
        last_values=last,
        full=full,
        chance=chance(source),
    )


def full_score(
    source: GraphSource, kind: Architecture, protocol: Protocol, seeds: Sequence[int], when: When, runtime: Runtime
) -> Score | None:
    """What the same networks learn from all training graphs, at the last epoch; None where that is not to be had."""
    if when == "skip":
        return None
    values = []
    for seed in seeds:
        most = LONG / len(seeds) if when == "auto" else None
        found = trained(source, kind, protocol, runtime, seed=seed, most=most)
        if found is None:
            runtime.say("the score of all the data would take more than ten minutes here; ask with --ceiling run.")
            return None
        values.append(found.outcome.last)
    return _score((tuple(values),), source.metric)


def chance(source: GraphSource) -> float:
    """Accuracy, in per cent, of always guessing the largest class of the test graphs; of a ranking 50."""
    if source.metric == "roc-auc":
        return 50.0
    return 100 * float(torch.bincount(source.test.labels).max()) / len(source.test)


def _score(values: Values, metric: str) -> Score:
    return Score.of([value for row in values for value in row], "% AUC" if metric == "roc-auc" else "%")


def _checked(sets: list[CondensedGraphs], source: GraphSource) -> list[CondensedGraphs]:
    if not sets:
        raise InputError("there is no condensed set to evaluate.")
    for small in sets:
        if small.classes != source.classes or small.feat.shape[2] != source.features:
            raise InputError(
                f"the condensed set has {len(small.classes)} classes and {small.feat.shape[2]} features a node, but "
                f"{source.name} has {len(source.classes)} and {source.features}; give the data it was condensed from."
            )
    return sets


def _own_split(small: CondensedGraphs, source: GraphSource, runtime: Runtime) -> GraphSource:
    """The source split as it was when the set was made of it."""
    if small.origin.content != source.content:
        runtime.say(f"note: {source.name} is not, graph for graph, what this set was condensed from.")
    if small.origin.split.kind == "given" and source.given is None:
        return source
    return source.at(small.origin.split)


def _condensing_seconds(sets: Sequence[CondensedGraphs]) -> float | None:
    files = [small.folder / "run" / "cost.json" for small in sets if small.folder is not None]
    seconds = [store.read_json(file)["seconds"] for file in files if file.exists()]
    return statistics.fmean(seconds) if seconds else None
