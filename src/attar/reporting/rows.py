"""The runs of one kind in rows: one row for each method with its settings, with a run for each seed."""

import itertools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from attar.core.artefact import Origin, Shown
from attar.core.cell import Beside, Cell, Measure
from attar.core.kinds import Kind
from attar.core.rows import rows_of
from attar.core.score import Score
from attar.core.settings import flat
from attar.reporting.side import Points, text

Column = tuple[str, str, str]
"""What is measured, by which protocol, in which unit."""


@dataclass(frozen=True)
class Run:
    """An artefact and what is known of its making."""

    name: str
    """Its folder, from where the report began to look."""
    place: Path
    """Its folder, from where the page lies."""
    origin: Origin
    """Plain values, every one of the type that it should have."""
    shown: Shown
    scores: tuple[Cell, ...] = ()
    commands: tuple[str, ...] = ()
    """The one that was given, and the one that takes every setting from the artefact."""
    seconds: float | None = None
    memory: int | None = None
    curves: dict[str, Points] = field(default_factory=dict)
    number: int = 0
    """On the page."""

    @cached_property
    def settings(self) -> dict[str, str]:
        """All settings by name, as text."""
        return {name: text(value) for name, value in flat(self.origin.settings)}


@dataclass(frozen=True)
class Row:
    """One method with its settings on one data set."""

    runs: tuple[Run, ...]
    """In the order of their seeds."""
    differs: str = ""
    """The settings in which it differs from other rows of its method."""

    @property
    def method(self) -> str:
        """What made them."""
        return self.runs[0].origin.method

    @property
    def label(self) -> str:
        """The method with those settings."""
        return f"{self.method} {self.differs}".strip()

    @property
    def data(self) -> str:
        """What it worked on."""
        return self.runs[0].origin.source

    @property
    def seeds(self) -> int:
        """How many seeds it was run with."""
        return len({run.origin.seed for run in self.runs})

    def score(self, column: Column) -> Cell | None:
        """The mean over the seeds that have a score, with what it is read with."""
        by_seed: dict[int, list[Cell]] = {}
        for run in self.runs:
            by_seed.setdefault(run.origin.seed, []).extend(found for found in run.scores if column_of(found) == column)
        cells = [together(found) for found in by_seed.values() if found]
        return together(cells) if cells else None

    @property
    def seconds(self) -> float | None:
        """Of making one, on average."""
        return mean(run.seconds for run in self.runs)

    @property
    def memory(self) -> float | None:
        """The most memory that any of them took."""
        return max((run.memory for run in self.runs if run.memory is not None), default=None)


@dataclass(frozen=True)
class Section:
    """All of one kind."""

    kind: Kind
    rows: tuple[Row, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """Row by row."""
        return tuple(run for row in self.rows for run in row.runs)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Everything that was measured of any of them."""
        return tuple(dict.fromkeys(column_of(cell) for run in self.runs for cell in run.scores))

    def unusual(self, row: Row) -> list[str]:
        """Settings in which a row differs from others of its method."""
        mine = row.runs[0]
        same = [other.runs[0].settings for other in self.rows if other.method == row.method]
        return [name for name, value in mine.settings.items() if any(other.get(name) != value for other in same)]


def sections_of(found: Sequence[tuple[Kind, Run]]) -> tuple[Section, ...]:
    """Runs by kind and row: the best first within what they were made from, and what was not scored last."""
    kinds = {kind.name: kind for kind, _ in found}
    numbers = itertools.count()
    return tuple(
        _section(kind, [run for one, run in found if one.name == kind.name], numbers) for kind in kinds.values()
    )


def _section(kind: Kind, runs: list[Run], numbers: Iterator[int]) -> Section:
    plain = Section(
        kind, tuple(Row(tuple(alike)) for _, alike in rows_of(runs, lambda run: {"data": run.origin.source}))
    )
    rows = []
    for row in sorted(plain.rows, key=lambda row: _order(row, plain.columns)):
        settings = row.runs[0].settings
        differs = ", ".join(f"{name} {settings[name]}" for name in plain.unusual(row))
        rows.append(Row(tuple(replace(run, number=next(numbers)) for run in row.runs), differs))
    return Section(kind, tuple(rows))


def _order(row: Row, columns: Sequence[Column]) -> tuple[str, int, float, str]:
    for place, column in enumerate(columns):
        cell = row.score(column)
        if cell is not None:
            return row.data, place, cell.score.value * (1 if cell.score.better == "lower" else -1), row.label
    return row.data, len(columns), 0.0, row.label


def column_of(cell: Cell) -> Column:
    """What a score is a score of."""
    return cell.column, cell.protocol, cell.score.unit


def together(cells: Sequence[Cell]) -> Cell:
    """Scores of several seeds as one: their mean, its spread over the seeds; so for all that they are read with."""
    if len(cells) == 1:
        return cells[0]
    first = cells[0]
    wholes = [cell.full for cell in cells if cell.full is not None]
    further = {name: [cell.further[name] for cell in cells if name in cell.further] for name in first.further}
    labels = dict.fromkeys(other.label for cell in cells for other in cell.beside)
    return replace(
        first,
        score=_over_seeds(cells),
        values=(),
        full=_mean(wholes) if wholes else None,
        kept_by_set=tuple(cell.kept for cell in cells),
        further={name: Measure(_over_seeds(several)) for name, several in further.items()},
        notes=tuple(note for cell in cells for note in cell.notes),
        beside=tuple(_rival([o for cell in cells for o in cell.beside if o.label == label]) for label in labels),
    )


def _over_seeds(measures: Sequence[Measure]) -> Score:
    first = measures[0].score
    return Score.of([measure.score.value for measure in measures], first.unit, first.better)


def _mean(scores: Sequence[Score]) -> Score:
    """The mean of several; the same number again and again, such as one whole for all, stays as it is."""
    if all(score == scores[0] for score in scores):
        return scores[0]
    return Score.of([score.value for score in scores], scores[0].unit, scores[0].better)


def _rival(several: Sequence[Beside]) -> Beside:
    return replace(several[0], score=_mean([other.score for other in several]))


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
