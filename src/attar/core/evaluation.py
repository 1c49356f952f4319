"""Tables of scores for artefacts of any kind: a row for each method, a column for each measure.

Artefacts that differ only in their seed are repeats of one row. The i-th repeats of all rows have the same seed, so two
rows are compared in pairs, which removes most of the noise. A score carries what it is compared with: the score without
augmentation, random samples of as many bytes, and chance. The terminal, the card, the report, JSON and the hub show
them together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from attar.core import notebook
from attar.core.cell import Cell, Measure, Plain
from attar.core.progress import as_text
from attar.core.rows import cost_of, made, prepared_of
from attar.core.score import Interval, paired, shown, welch

PNG = bytes


@dataclass(frozen=True)
class Row:
    """One method with its settings: artefacts that differ in their seed alone."""

    label: str
    artefacts: tuple[Any, ...]
    cells: tuple[Cell, ...]
    """One for every column."""
    seeds: tuple[int, ...] = ()
    count: int | None = None
    """How many samples, parameters or components one artefact has."""
    bytes: int | None = None
    """Size in bytes of the files that training needs."""
    full_count: int | None = None
    """How many samples, parameters or components the original has."""
    full_bytes: int | None = None
    seconds: float | None = None
    """Seconds that one artefact took to make, if its run is available, with networks trained beside it or earlier."""
    memory: int | None = None
    """Peak memory of making it, in bytes."""
    prepared: float | None = None
    """Those of the seconds in which networks were trained beside it or earlier."""

    @classmethod
    def of(cls, label: str, artefacts: Sequence[Any], cells: Sequence[Cell], **sizes: int | None) -> Self:
        """A row, with the cost of its artefacts."""
        seeds = tuple(made(one)[2] for one in artefacts)
        seconds, memory = cost_of(artefacts)
        row = cls(label, tuple(artefacts), tuple(cells), seeds, seconds=seconds, memory=memory, **sizes)
        return replace(row, prepared=prepared_of(artefacts))

    def of_set(self, index: int) -> "Row":
        """This row with one of its artefacts."""
        one = slice(index, index + 1)
        cells = tuple(cell.of_set(index) for cell in self.cells)
        return replace(self, artefacts=self.artefacts[one], seeds=self.seeds[one], cells=cells)

    def to_json(self) -> Plain:
        """Plain values."""
        sizes = {name: getattr(self, name) for name in ("count", "bytes", "full_count", "full_bytes")}
        cost = {"seconds": self.seconds, "prepared": self.prepared, "memory": self.memory}
        cells = [cell.to_json() for cell in self.cells]
        return {"label": self.label, "seeds": list(self.seeds), **sizes, **cost, "columns": cells}


@dataclass(frozen=True)
class Difference:
    """How far one row lies above another, in one column."""

    interval: Interval
    unit: str
    """What was compared: "sets in pairs", "networks in pairs", or "sets" where the seeds differ."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured: a row for each method, a column for each kind of network."""

    rows: tuple[Row, ...]
    counted: str = "images"
    """The unit of an artefact's size."""
    sets: str = "sets"
    """The word for artefacts."""
    repeats: str = "networks"
    """The word for repeats of a measurement."""
    seconds: float = 0.0
    """Seconds that the measurement took."""

    @property
    def networks(self) -> tuple[Cell, ...]:
        """The columns of the first row, and of the only one where one method was measured."""
        return self.rows[0].cells

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(cell.column for cell in self.networks)

    @property
    def count(self) -> int | None:
        """Samples, parameters or components of an artefact of the first row."""
        return self.rows[0].count

    @property
    def images(self) -> int | None:
        """`count`, under its name for images."""
        return self.count

    @property
    def bytes(self) -> int | None:
        """Size in bytes of an artefact of the first row."""
        return self.rows[0].bytes

    def of_set(self, index: int) -> "Evaluation":
        """This evaluation with one artefact of each row."""
        return replace(self, rows=tuple(row.of_set(index) for row in self.rows))

    def difference(self, row: int, column: int = 0, *, to: int = 0, measure: str = "") -> Difference:
        """A row's score minus that of another.

        In pairs of artefacts with the same seeds; in pairs of repeats where each row has one artefact.

        Args:
            row: Index of the row.
            column: Index of the column.
            to: Index of the row that is subtracted. Default: the first.
            measure: Name of a further measure of the column. Default: its score.
        """
        cells = (self.rows[place].cells[column] for place in (row, to))
        first, second = (cell.further[measure] if measure else cell for cell in cells)
        return difference(
            first, second, same_seeds=self.rows[row].seeds == self.rows[to].seeds, sets=self.sets, repeats=self.repeats
        )

    def to_json(self) -> Plain:
        """Plain values, with every row's difference to the first."""
        rows = []
        for place, row in enumerate(self.rows):
            over = [self.difference(place, column) for column in range(len(row.cells))] if place else []
            gains = [{"interval": one.interval.to_json(), "unit": one.unit} for one in over]
            rows.append({**row.to_json(), "over_first": gains})
        words = {"counted": self.counted, "sets": self.sets, "repeats": self.repeats}
        return {**words, "rows": rows, "seconds": self.seconds}

    def __str__(self) -> str:
        if len(self.rows) == 1:
            return self._lines(self.rows[0])
        beside = "\n".join(self._beside())
        return f"{as_text(self._table())}\n{self._note()}" + (f"\n{beside}" if beside else "")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(row.label for row in self.rows)} by {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        if len(self.rows) > 1:
            return notebook.table(*self._grid(), below="\n".join([self._note(), *self._beside()]))
        (row,) = self.rows
        how = [f"{cell.column}{kept_words(cell)}{self._of(cell)}" for cell in row.cells]
        lines = [line for cell in row.cells for line in cell.lines]
        return notebook.table((row.label, ""), lines, "\n".join([*how, self._cost(row)]))

    def _repr_png_(self) -> PNG | None:
        from attar.core.pictures import can_draw, figure

        return figure(self._draw, 6.0, 0.8 + 0.35 * len(self.rows) * len(self.columns)) if can_draw() else None

    def _lines(self, row: Row) -> str:
        """A single row: each score with all that it is read with, and what the artefact cost."""
        lines = []
        for cell in row.cells:
            lines.append(f"{cell.column}: {cell.score}{self._size(row)}{kept_words(cell)}{self._of(cell)}")
            lines += [f"  {cell.with_it}"] if cell.further else []
            lines += [f"  beside it, {other}" for other in cell.rivals]
        return "\n".join([*lines, self._cost(row)])

    def _size(self, row: Row) -> str:
        return f" from {row.count:,} {self.counted}" if row.count is not None else ""

    def _of(self, cell: Cell) -> str:
        """How many artefacts and repeats a score is of, and how each of them varies."""
        artefacts, repeats = len(cell.values), sum(map(len, cell.values))
        words = [cell.how] if cell.how else []
        if repeats > artefacts or cell.protocol:
            on = f" on {artefacts} {self.sets}" if artefacts > 1 else ""
            words.append(f"{_many(repeats, self.repeats)}{on}")
        elif artefacts > 1:
            words.append(f"{artefacts} {self.sets}")
        spread, unit = cell.spread, cell.score.unit
        if spread.sets is not None:
            words[-1] += f"; {self.sets} vary by {shown(spread.sets, unit)}"
            words[-1] += f", {self.repeats} by {shown(spread.networks, unit)}" if spread.networks is not None else ""
        return f" ({', '.join(words)})" if words else ""

    def _cost(self, row: Row) -> str:
        words = []
        if row.bytes is not None:
            share = f", {100 * row.bytes / row.full_bytes:.2g} % of the whole" if row.full_bytes else ""
            words.append(f"{row.bytes:,} bytes{share}; ")
        if row.seconds is not None:
            memory = f" with {row.memory / 1e9:.2g} GB" if row.memory else ""
            beside = f", {row.prepared:,.1f} s of them for networks beside it" if row.prepared else ""
            words.append(f"made in {row.seconds:,.1f} s{memory}{beside}, ")
        return f"{''.join(words)}scored in {self.seconds:,.1f} s"

    def _grid(self) -> tuple[list[str], list[list[str]]]:
        """The table of several rows: what stands above the columns, and the rows."""
        sized = any(row.bytes is not None for row in self.rows)
        heads = [f"{cell.column}{_unit(cell)}" for cell in self.networks]
        rows = []
        for place, row in enumerate(self.rows):
            sizes = [row.count, *([row.bytes] if sized else [])]
            cells = [self._score(place, column) for column in range(len(heads))]
            rows.append([row.label, *("" if size is None else f"{size:,}" for size in sizes), *cells])
        return ["made by", self.counted, *(["bytes"] if sized else []), *heads], rows

    def _table(self) -> Any:
        from rich.table import Table

        (first, *heads), rows = self._grid()
        grid = Table(show_edge=False, pad_edge=False)
        grid.add_column(first, no_wrap=True)
        for heading in heads:
            grid.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            grid.add_row(*row)
        return grid

    def _draw(self, fig: Any) -> None:
        """Every score as a point with its standard deviation, a panel for each column."""
        panels = fig.subplots(len(self.columns), 1, squeeze=False)[:, 0]
        for column, axes in enumerate(panels):
            cells = [row.cells[column] for row in self.rows]
            places = list(range(len(cells)))[::-1]
            spreads = [cell.score.spread or 0.0 for cell in cells]
            axes.errorbar([cell.score.value for cell in cells], places, xerr=spreads, fmt="o", capsize=3)
            axes.set_yticks(places, [row.label for row in self.rows])
            axes.set_ylim(-0.5, len(cells) - 0.5)
            axes.set_xlabel(" ".join(filter(None, (self.columns[column], cells[0].score.unit))))

    def _score(self, row: int, column: int) -> str:
        score = self.rows[row].cells[column].score
        if row == 0:
            return score.number
        return f"{score.number}  ({self.difference(row, column).interval.told(score.unit)})"

    def _beside(self) -> Iterator[str]:
        """What the scores of the table are read with, a line for each of them."""
        for row in self.rows:
            for cell in row.cells:
                words = [*filter(None, (cell.note, cell.with_it)), *map(str, cell.rivals)]
                if words:
                    yield f"beside {row.label}, {cell.column}: {'; '.join(words)}"

    def _note(self) -> str:
        units = sorted({self.difference(row, 0).unit for row in range(1, len(self.rows))})
        spread = f"± over {self.sets} and {self.repeats}; "
        return f"{spread}in brackets the difference to the first row with its 95 % interval, {' or '.join(units)}."


def difference(
    first: Measure, second: Measure, *, same_seeds: bool, sets: str = "sets", repeats: str = "networks"
) -> Difference:
    """One score minus another: in pairs of sets with the same seeds, of networks where there is one set each."""
    if len(first.values) == len(second.values) == 1 and len(first.values[0]) == len(second.values[0]):
        return Difference(paired(first.values[0], second.values[0]), f"{repeats} in pairs")
    if same_seeds:
        return Difference(paired(first.by_set, second.by_set), f"{sets} in pairs")
    return Difference(welch(first.by_set, second.by_set), sets)


def _many(count: int, things: str) -> str:
    return f"{count:,} {things if count != 1 else things.removesuffix('s')}"


def _unit(cell: Cell) -> str:
    return f", {cell.score.unit}" if cell.score.unit not in ("%", "") else ""


def kept_words(cell: Cell) -> str:
    """The share of the original's score that is kept, for the end of a line; empty where there is none."""
    if cell.kept is None:
        return ""
    above = cell.kept_above_chance
    return f"; kept {cell.kept:.1f} %" + (f", above chance {above:.1f} %" if above is not None else "")
