"""Cells of a table: what was measured in each, and the lines in which people read them."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from attar.bench.published import datasets, published
from attar.core.score import Interval, Score, kept, welch
from attar.images.sources import ImageSource

Labels = Literal["hard", "soft", "taught"]
KINDS: tuple[Labels, ...] = ("hard", "soft", "taught")
"""The order in which rows stand; what learns from other labels is not to be compared."""
FOOT = "± over sets and networks; seconds of one set; 95 % intervals by Welch over condensed sets."
"""What stands below a table."""
FOOT_PREPARED = "Seconds after a plus are those of networks that the method needs. They are trained once and kept."
FOOT_RATES = (
    "Sets with a learned step size are compared with random images at the protocol's step size or at theirs, whichever "
    "are better."
)
"""What stands below it if it has such rows."""
NAMES = {
    "class mean": "class-mean",
    "full data": "whole",
    "relabelled random": "relabel",
    "relabelled k-means": "relabel",
}
"""Rows whose published name is not their label in lower case."""
_HEADINGS = ("per class", "labels", "method", "accuracy %", "over random", "kept", "bytes", "seconds", "published %")
_LEFT = ("labels", "method")
"""Columns of words, which begin at the left."""


@dataclass(frozen=True)
class Cell:
    """One measured line."""

    label: str
    ipc: int
    values: tuple[tuple[float, ...], ...]
    """Test accuracy in per cent, by condensed set and network."""
    bytes: int
    seconds: float
    """Seconds of condensing one set, with what was prepared for it: networks trained beside it, now or earlier."""
    labels: Labels = "hard"
    """What its networks learned."""
    prepared: float = 0.0
    """Those of the seconds in which networks were prepared."""
    random: tuple[tuple[float, ...], ...] = ()
    """If the sets have learned a step size, the accuracy of random images, as many, at theirs."""

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Cell":
        """The inverse of `dataclasses.asdict`, also for cells of earlier versions."""
        by_set = {name: tuple(map(tuple, facts.get(name, ()))) for name in ("values", "random")}
        return cls(**{**facts, **by_set})

    @property
    def by_set(self) -> list[float]:
        """The mean accuracy of each set, the unit of comparison."""
        return [statistics.fmean(values) for values in self.values]

    @property
    def score(self) -> Score:
        """Over all sets and networks, as the field prints it."""
        return Score.of([value for values in self.values for value in values])

    @property
    def time(self) -> str:
        """The seconds of one set, and after a plus those of the networks prepared for it."""
        own = f"{self.seconds - self.prepared:.1f}"
        return f"{own} + {self.prepared:.1f}" if self.prepared else own


def lines(
    cells: Iterable[Cell], full: Score | None, full_seconds: float | None, source: ImageSource, name: str, width: int
) -> Iterator[str]:
    """The table as people read it, line by line: a cell is asked for when its line is, so it is shown once measured.

    Args:
        cells: In the order of `Plan.grid`.
        full: The score of all the data.
        full_seconds: How long that took.
        source: The data.
        name: The table's name, by which published figures are found.
        width: Letters of the longest label.
    """
    widths = [len(_HEADINGS[0]), 6, max(width, 9), 12, 20, 5, 11, 13, 11]
    columns = list(zip(_HEADINGS, widths, strict=True))[: None if name in datasets() else -1]

    def line(values: Sequence[str]) -> str:
        words = zip(values, columns, strict=False)
        return " │ ".join(f"{word:{'<' if head in _LEFT else '>'}{wide}}" for word, (head, wide) in words).rstrip()

    rule = "─┼─".join("─" * wide for _, wide in columns)
    yield line([head for head, _ in columns])
    yield rule
    yield line(_whole(full, full_seconds, source, name))
    before, random = None, None
    for cell in cells:
        if before is None or (cell.ipc, cell.labels) != (before.ipc, before.labels):
            yield rule
        if before is None or cell.ipc != before.ipc:
            random = None
        random = cell if cell.label == "random" else random
        yield line(_measured(cell, random, full, name))
        before = cell


def _whole(full: Score | None, seconds: float | None, source: ImageSource, name: str) -> tuple[str, ...]:
    """The line of all the data."""
    known = [published(name, ipc) for ipc in (1, 10, 50)] if name in datasets() else []
    papers = [cells["whole"] for cells in known if "whole" in cells]
    accuracy, kept_share = (full.number, "100.0") if full else ("not trained", "")
    took = "" if seconds is None else f"{seconds:.1f}"
    paper = f"{papers[0].value:.1f}" if papers else ""
    return ("all", "hard", "full data", accuracy, "", kept_share, f"{source.bytes:,}", took, paper)


def _measured(cell: Cell, random: Cell | None, full: Score | None, name: str) -> tuple[str, ...]:
    """The line of a cell."""
    known = published(name, cell.ipc) if name in datasets() else {}
    gain = str(over(cell, random)) if random and cell is not random else ""
    sizes = (f"{cell.bytes:,}", cell.time)
    paper = str(known.get(NAMES.get(cell.label, cell.label.lower()), ""))
    return (str(cell.ipc), cell.labels, cell.label, cell.score.number, gain, share(cell.score, full), *sizes, paper)


def foot(cells: Sequence[Cell]) -> Iterator[str]:
    """What stands below a table of these cells, line by line."""
    yield FOOT
    if any(cell.prepared for cell in cells):
        yield FOOT_PREPARED
    if any(cell.random for cell in cells):
        yield FOOT_RATES


def share(score: Score, full: Score | None) -> str:
    """What is kept of the full-data score, in figures; nothing where that is not known."""
    found = kept(score, full) if full else None
    return "" if found is None else f"{found:.1f}"


def over(cell: Cell, random: Cell) -> Interval:
    """How far a cell lies above random selection, with sets as the unit where there are several.

    Sets with a learned step size are compared with the better of random images at the protocol's step size and at
    theirs.
    """
    several = len(cell.values) > 1
    at_theirs = [statistics.fmean(values) for values in cell.random]
    rival = max((by_set for by_set in (random.by_set, at_theirs) if by_set), key=statistics.fmean)
    return welch(cell.by_set if several else list(cell.values[0]), rival)
