"""Condensed sets side by side: what networks of several kinds learn from each, and how sure the differences are.

Sets that differ in nothing but the seed are repeats of one row. Every row's i-th network starts from the same seed and
sees its images in the same order, so two rows are compared in pairs, which takes most of the noise away.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from attar.core.errors import InputError
from attar.core.progress import as_text
from attar.core.runtime import Engine
from attar.core.score import Interval, paired, welch
from attar.core.settings import flat
from attar.images.artefact import CondensedImages
from attar.images.networks.architecture import Architecture, Factory
from attar.images.score import Evaluation, NetworkScore, When, evaluate
from attar.images.sources import ImageSource
from attar.images.training import Protocol


@dataclass(frozen=True)
class Row:
    """One method with its settings, and what was learned from its sets."""

    label: str
    sets: tuple[CondensedImages, ...]
    evaluation: Evaluation

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of the sets."""
        return tuple(small.origin.seed for small in self.sets)


@dataclass(frozen=True)
class Difference:
    """How far a row lies above the first, for one kind of network."""

    interval: Interval
    unit: str
    """What was compared: "sets in pairs", "networks in pairs", or "sets" where the seeds differ."""


@dataclass(frozen=True)
class Comparison:
    """Rows of condensed sets, columns of networks."""

    rows: tuple[Row, ...]

    def difference(self, row: int, network: int, *, to: int = 0) -> Difference:
        """A row's score minus that of another, the first unless said."""
        ours, theirs = (self.rows[index].evaluation.networks[network] for index in (row, to))
        return difference(ours, theirs, same_seeds=self.rows[row].seeds == self.rows[to].seeds)

    def __str__(self) -> str:
        names = [network.network for network in self.rows[0].evaluation.networks]
        grid = Table(show_edge=False, pad_edge=False)
        for heading in ("condensed by", "images", "bytes", *names):
            grid.add_column(heading, justify="left" if heading == "condensed by" else "right", no_wrap=True)
        for place, row in enumerate(self.rows):
            result = row.evaluation
            cells = [self._cell(place, network) for network in range(len(names))]
            grid.add_row(row.label, f"{result.images:,}", f"{result.bytes:,}", *cells)
        return f"{as_text(grid)}\n{self._note()}"

    def _cell(self, row: int, network: int) -> str:
        score = self.rows[row].evaluation.networks[network].score
        text = f"{score.value:.1f} ± {score.spread:.1f}"
        return text if row == 0 else f"{text}  ({self.difference(row, network).interval})"

    def _note(self) -> str:
        if len(self.rows) == 1:
            return "± over sets and networks."
        units = {self.difference(row, 0).unit for row in range(1, len(self.rows))}
        unit = " or ".join(sorted(units))
        return f"± over sets and networks; in brackets the difference to the first row with its 95 % interval, {unit}."

    def to_json(self) -> dict[str, object]:
        """Plain values, with every row's difference to the first."""
        rows = []
        for place, row in enumerate(self.rows):
            networks = range(len(row.evaluation.networks)) if place else ()
            differences = [dataclasses.asdict(self.difference(place, network)) for network in networks]
            facts = {"label": row.label, "seeds": list(row.seeds), "evaluation": row.evaluation.to_json()}
            rows.append({**facts, "over_first": differences})
        return {"rows": rows}


def difference(first: NetworkScore, second: NetworkScore, *, same_seeds: bool) -> Difference:
    """One score minus another: in pairs of sets with the same seeds, of networks where there is one set each."""
    if len(first.values) == len(second.values) == 1 and len(first.values[0]) == len(second.values[0]):
        return Difference(paired(first.values[0], second.values[0]), "networks in pairs")
    if same_seeds:
        return Difference(paired(first.by_set, second.by_set), "sets in pairs")
    return Difference(welch(first.by_set, second.by_set), "sets")


def compare(
    sets: Sequence[CondensedImages],
    source: ImageSource,
    *,
    networks: Sequence[str | Architecture | Factory] = ("convnet",),
    repeats: int = 5,
    protocol: str | Protocol = "field",
    ceiling: When = "auto",
    beside: When = "auto",
    seed: int = 0,
    engine: Engine | None = None,
    say: Callable[[str], None] | None = None,
) -> Comparison:
    """Evaluate several condensed sets with the same networks and seeds: a cross-architecture table in one call.

    Args:
        sets: Condensed sets of the same data; those that differ only in their seed make one row.
        source: Where the test images come from.
        networks: As in `evaluate`.
        repeats: Networks of each kind on each set.
        protocol: How they are trained.
        ceiling: Whether to measure the score of all the data too.
        beside: Whether to measure what a score is read with; under `auto` only where there is a single row.
        seed: The repeats' seeds come from it.
        engine: How to use the machine.
        say: Told what happens.

    Raises:
        InputError: No sets, or what `evaluate` refuses.
    """
    if not sets:
        raise InputError("there is no condensed set to compare.")
    groups: dict[str, list[CondensedImages]] = {}
    for small in sets:
        groups.setdefault(_key(small), []).append(small)
    if len(groups) > 1 and beside == "auto":
        beside = "skip"
    labels = _labels([members[0] for members in groups.values()])
    rows = []
    for label, members in zip(labels, groups.values(), strict=True):
        members = sorted(members, key=lambda small: small.origin.seed)
        result = evaluate(
            members,
            source,
            networks=networks,
            repeats=repeats,
            protocol=protocol,
            ceiling=ceiling,
            beside=beside,
            seed=seed,
            engine=engine,
            say=say,
        )
        rows.append(Row(label, tuple(members), result))
    return Comparison(tuple(rows))


def _key(small: CondensedImages) -> str:
    return f"{small.origin.method} {sorted(small.origin.settings.items())} {len(small.labels)}"


def _labels(members: list[CondensedImages]) -> list[str]:
    """The method, and of its settings those in which rows of the same method differ."""
    settings = [dict(flat(small.origin.settings)) for small in members]
    labels = []
    for small, mine in zip(members, settings, strict=True):
        same = [other for one, other in zip(members, settings, strict=True) if one.origin.method == small.origin.method]
        differing = [name for name, value in mine.items() if any(other.get(name) != value for other in same)]
        labels.append(" ".join([small.origin.method, *(f"{name} {mine[name]}" for name in differing)]))
    return labels
