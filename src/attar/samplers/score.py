"""The worth of a sampler: its new samples against real ones, beside real halves, its teacher and a student of pairs.

All samplers start from the same noise with the same labels. Distances are on the features of two small networks, since
close scores change their order between networks; shares are by nearest neighbours on the first. Against the training
samples a sampler is held to what it was given, against the test samples to what it was not; copies of training samples
show in the memorisation, which is told as the excess over what other training samples have.
"""

import dataclasses
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attar.core.cell import Beside, Cell, Measure
from attar.core.errors import InputError
from attar.core.evaluation import Evaluation, Row
from attar.core.progress import as_text
from attar.core.rows import rows_of
from attar.core.runtime import Runtime
from attar.core.score import Score
from attar.core.seeds import derived_seed
from attar.samplers.artefact import Sampler
from attar.samplers.comparing import TEST, Comparison, draw, seconds_of
from attar.samplers.rivals import SECONDS, Given, Rival, rivals_of, teacher_of
from attar.samplers.scoring import Scoring
from attar.samplers.sources import Source
from attar.samplers.teaching import check_alike

WITH: Mapping[str, str] = {
    "FD": "rFD",
    "energy distance": "sliced W1",
    "stray": "mode mass, variation",
    "nearer to training samples": "memorisation excess",
}
"""Measures that are told with another one, by how both begin."""
ORDER = (
    "sliced W1",
    "modes",
    "mode mass",
    "-ln p",
    "rFD",
    "kernel distance",
    "precision",
    "recall",
    "density",
    "coverage",
    "class accuracy",
    "label variation",
    "memorisation",
    "two-sample AUC",
    "seconds",
)
"""The columns, by how they begin; those of the test samples come after those of the training samples."""


WRAPPED = 18
"""Characters in a line above a column."""


@dataclass(frozen=True)
class Studied:
    """A row with what is needed to draw it."""

    one: Sampler
    given: Given
    rivals: tuple[Rival, ...]
    teacher: Sampler | None
    against: Comparison


@dataclass(frozen=True)
class Measurement(Evaluation):
    """What was measured: a line for each measure, a column for each sampler and for what stands beside it."""

    studied: tuple[Studied, ...] = field(default=(), repr=False, compare=False)
    """By row."""
    told: str = ""
    """How many samples were compared, and on which networks."""

    def __str__(self) -> str:
        return f"{self.told}\n{super().__str__()}"

    def _lines(self, row: Row) -> str:
        """A single row: a line for each measure, and a column for each rival."""
        rivals = self.studied[0].rivals if self.studied else ()
        sizes = {
            "calls of a network (NFE)": (row.count, [one.calls for one in rivals]),
            "bytes": (row.bytes, [one.bytes for one in rivals]),
        }
        lines = [(name, _whole(mine), *map(_whole, theirs)) for name, (mine, theirs) in sizes.items()]
        for cell in row.cells:
            end = TEST if cell.column.endswith(TEST) else ""
            lines.append((_heading(cell), cell.score.number, *_of_rivals(rivals, cell.column)))
            for name, measure in cell.further.items():
                lines.append((f"  {name}", measure.score.number, *_of_rivals(rivals, f"{name}{end}")))
        heads = (row.label, *(one.label for one in rivals))
        return f"{as_text(_grid(heads, lines))}\n{self._cost(row)}"

    def _table(self) -> Any:
        """Several rows: a line for each measure, and a column for each of them."""
        heads = [row.label for row in self.rows]
        lines = [("calls of a network (NFE)", *(_whole(row.count) for row in self.rows))]
        lines += [("bytes", *(_whole(row.bytes) for row in self.rows))]
        for place, cell in enumerate(self.networks):
            lines.append((_heading(cell), *(self._score(row, place) for row in range(len(self.rows)))))
        return _grid(heads, lines)

    def _beside(self) -> Any:
        """Nothing below the table of several rows: rivals are measured of single ones."""
        return iter(())


def _heading(cell: Cell) -> str:
    return f"{cell.column} (%)" if cell.score.unit == "%" else cell.column


def _of_rivals(rivals: Sequence[Rival], name: str) -> list[str]:
    """A measure of all rivals, without intervals; a dash where it was not measured."""
    scores = [one.scores.get(name) for one in rivals]
    return ["–" if score is None else dataclasses.replace(score, interval=None).number for score in scores]


def _whole(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _grid(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table

    grid = Table(show_edge=False, pad_edge=False)
    grid.add_column("", no_wrap=True)
    for head in heads:
        grid.add_column(textwrap.fill(head, WRAPPED), justify="right")
    for line in lines:
        grid.add_row(*line)
    return grid


def measure(samplers: Sequence[Any], source: Source, how: Scoring, runtime: Runtime) -> Evaluation:
    """Draw samples and compare them with real ones: a row for each method, a column for each measure.

    Args:
        samplers: Samplers. Those that differ only in their seed make one row.
        source: The samples that they learned from.
        how: How many samples, and which neighbours. Rivals are measured under `auto` only if there is a single row.
        runtime: The machine; its seed draws noise, labels and halves.

    Raises:
        InputError: There is no sampler, one makes samples of another shape or of other classes, some are not finite,
            or there are too few for so many neighbours.
    """
    start = time.perf_counter()
    if not samplers:
        raise InputError("there is no sampler to evaluate; give one or more.")
    for one in samplers:
        _check(one, source, runtime)
    grouped = rows_of(samplers, lambda one: {"calls": one.calls, "data": one.origin.fingerprint})
    if len(grouped) > 1 and how.beside == "auto":
        how = dataclasses.replace(how, beside="skip")
    against = Comparison.of(source, runtime, k=how.neighbours, samples=how.samples)
    found = [_row(label, members, against, how) for label, members in grouped]
    return Measurement(
        tuple(row for row, _ in found),
        "calls of a network",
        "samplers",
        "draws",
        seconds=round(time.perf_counter() - start, 3),
        studied=tuple(studied for _, studied in found),
        told=_told(against),
    )


def _check(one: Any, source: Source, runtime: Runtime) -> None:
    """Whether a sampler makes samples like those of the source."""
    if not isinstance(one, Sampler):
        raise InputError(f"{one.title} is not sampled by class numbers, so its samples cannot be compared here.")
    check_alike("the sampler", one, source)
    if one.origin.teacher is None and one.origin.fingerprint != source.fingerprint:
        runtime.say(f"note: the samples of {source.name} differ from those that this sampler learned from.")


def _told(against: Comparison) -> str:
    """How many samples were compared, and on which networks."""
    test = "" if against.test is None else f" and {len(against.test):,} test"
    things = against.source.things
    networks = "" if against.judges[0].network is None else f"; {' and '.join(one.title for one in against.judges)}"
    return f"{against.count:,} new against {len(against.train):,} training{test} {things}, k = {against.k}{networks}"


def _row(label: str, members: Sequence[Sampler], against: Comparison, how: Scoring) -> tuple[Row, Studied]:
    runtime, first = against.runtime, members[0]
    found: list[list[dict[str, Score]]] = []
    given: list[Given] = []
    for number, one in enumerate(members, start=1):
        repeats = []
        for repeat in range(how.repeats):
            seed = derived_seed(runtime.seed, f"samples {repeat}") % 2**31
            drawn = draw(one, one.labels_for(against.count, seed), against.count, seed, runtime)
            repeats.append(against.measured(drawn.samples, drawn.labels) | {SECONDS: seconds_of(drawn)})
            given.append(Given(drawn, seed, against.count))
        found.append(repeats)
        runtime.say(f"{label}: sampler {number} of {len(members)}, {_few(repeats[0])}")
    rivals = tuple(rivals_of(first, given[0], against, how))
    columns = columns_of(found[0][0])
    cells = [_cell(column, further, found, rivals, against) for column, further in columns.items()]
    row = Row.of(label, members, cells, count=first.calls, bytes=first.bytes)
    row = dataclasses.replace(row, full_count=first.origin.teacher_calls)
    teacher = None if how.beside == "skip" else teacher_of(first, against.source, how, runtime.alone())
    return row, Studied(first, given[0], rivals, teacher, against)


def _few(scores: Mapping[str, Score]) -> str:
    """The first distance, precision and recall in words."""
    names = [next(name for name in scores if name.startswith(("sliced", "rFD"))), "precision", "recall"]
    return ", ".join(f"{name} {scores[name]}" for name in names)


def columns_of(scores: Mapping[str, Score]) -> dict[str, list[str]]:
    """The columns in their order, each with the measures that are told with it."""

    def place(name: str) -> tuple[bool, int]:
        known = next((number for number, start in enumerate(ORDER) if name.startswith(start)), len(ORDER))
        return name.endswith(TEST), known

    of = {name: _told_with(name, scores) for name in scores}
    main = sorted((name for name in scores if of[name] is None), key=place)
    return {name: [other for other in scores if of[other] == name] for name in main}


def _told_with(name: str, scores: Mapping[str, Score]) -> str | None:
    """The measure that another is told with; None of a column of its own."""
    start = next((start for start in WITH if name.startswith(start)), None)
    if start is None:
        return None
    rest = name.removeprefix(start).removesuffix(TEST)
    end = TEST if name.endswith(TEST) else ""
    return next(one for one in scores if one.startswith(WITH[start] + rest) and one.endswith(TEST) == bool(end))


def _cell(
    column: str,
    further: Sequence[str],
    found: Sequence[Sequence[Mapping[str, Score]]],
    rivals: Sequence[Rival],
    against: Comparison,
) -> Cell:
    """A column of a row, with what it is compared with."""

    def measured(name: str) -> Measure:
        single = found[0][0][name]
        values = tuple(tuple(one[name].value for one in repeats) for repeats in found)
        several = len(found) > 1 or len(found[0]) > 1
        score = Score.of([v for row in values for v in row], single.unit, single.better) if several else single
        return Measure(score, values)

    mine = measured(column)
    return Cell(
        mine.score,
        mine.values,
        column=column,
        further={name.removesuffix(TEST): measured(name) for name in further},
        beside=tuple(
            Beside(rival.label, rival.scores[column], rival.calls, rival.bytes)
            for rival in rivals
            if column in rival.scores
        ),
        notes=(_told(against),) * len(found) if column != SECONDS else (),
    )
