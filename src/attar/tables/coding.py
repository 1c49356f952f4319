"""A table as a matrix for a generator, and back: of each column a number, a choice of one among several, or both.

A category is a choice of its level. What a number becomes is up to the method. Everything is fitted to training rows,
and what is drawn is a table of the same schema: whole numbers are whole, missing numbers are missing, and no number or
level is outside of what the training rows have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.store import named, within
from attar.tables.sources import Column, Rows, Schema

Entries = Float[Tensor, "row entry"]
Values = Float[Tensor, " row"]


@runtime_checkable
class Code(Protocol):
    """What becomes of a column: at most one number, then at most one choice."""

    @property
    def number(self) -> bool:
        """Whether it has a number."""

    @property
    def choices(self) -> int:
        """Among how many it has to choose; 0 for none."""

    def encode(self, values: Values, generator: torch.Generator) -> Entries:
        """The entries of the column's values."""

    def decode(self, entries: Entries) -> Values:
        """The values of entries, of which each choice is the largest one."""

    def tensors(self) -> dict[str, Tensor]:
        """What was fitted, to be saved."""


@dataclass(frozen=True)
class LevelCode:
    """A category as the choice of one of the levels that the training rows have."""

    levels: Int[Tensor, " level"]
    """The numbers of those levels."""
    number = False

    @property
    def choices(self) -> int:
        """How many they are."""
        return len(self.levels)

    def encode(self, values: Values, generator: torch.Generator) -> Entries:
        """A one at the level of each row."""
        return (values.unsqueeze(1) == self.levels).double()

    def decode(self, entries: Entries) -> Values:
        """The number of the level with the largest entry."""
        return self.levels[entries.argmax(dim=1)].double()

    def tensors(self) -> dict[str, Tensor]:
        """The levels, to be saved."""
        return {"levels": self.levels}


@dataclass(frozen=True)
class Span:
    """Neighbouring entries that belong together."""

    column: str
    start: int
    stop: int
    choice: bool
    """Whether they are a choice, one of which is 1; else it is one number."""

    @property
    def place(self) -> slice:
        """Where they are."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class TableCode:
    """What becomes of each column of a table."""

    schema: Schema
    codes: tuple[Code, ...]

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The numbers and choices, in order."""
        found, start = [], 0
        for column, code in zip(self.schema.columns, self.codes, strict=True):
            for size, choice in ((int(code.number), False), (code.choices, True)):
                if size:
                    found.append(Span(column.name, start, start + size, choice))
                    start += size
        return tuple(found)

    @property
    def width(self) -> int:
        """The number of entries of a row."""
        return self.spans[-1].stop

    @property
    def numbers(self) -> list[int]:
        """The entries that are numbers."""
        return [span.start for span in self.spans if not span.choice]

    @property
    def choices(self) -> list[slice]:
        """The entries of each choice."""
        return [span.place for span in self.spans if span.choice]

    def entry_of(self, column: Column, level: int) -> int | None:
        """The entry of a level of a category; None if the training rows have no such level."""
        start = next(span.start for span in self.spans if span.column == column.name)
        code = self.codes[self.schema.index(column.name)]
        levels = code.tensors()["levels"].tolist()
        return start + levels.index(level) if level in levels else None

    def encode(self, rows: Rows, generator: torch.Generator) -> Entries:
        """The rows as a matrix, in float32."""
        pairs = zip(self.schema.columns, self.codes, strict=True)
        return torch.cat([code.encode(rows.of(column), generator) for column, code in pairs], dim=1).float()

    def decode(self, entries: Entries) -> Rows:
        """The rows of a matrix."""
        columns, start, entries = [], 0, entries.cpu().double()
        for column, code in zip(self.schema.columns, self.codes, strict=True):
            stop = start + code.number + code.choices
            values = code.decode(entries[:, start:stop])
            columns.append(values.round() if column.whole else values)
            start = stop
        return Rows(self.schema, torch.stack(columns, dim=1))

    def tensors(self) -> dict[str, Tensor]:
        """What was fitted, to be saved."""
        found: dict[str, Tensor] = {}
        for place, code in enumerate(self.codes):
            found |= named(str(place), code.tensors())
        return found

    @classmethod
    def of_tensors(
        cls, schema: Schema, tensors: Mapping[str, Tensor], number: Callable[[Mapping[str, Tensor]], Code]
    ) -> "TableCode":
        """The code whose `tensors` these are.

        Args:
            schema: The columns.
            tensors: What `tensors` gave.
            number: The code of a number from its tensors.
        """
        codes: list[Code] = []
        for place, column in enumerate(schema.columns):
            mine = within(str(place), tensors)
            codes.append(LevelCode(mine["levels"]) if column.type == "category" else number(mine))
        return cls(schema, tuple(codes))


def table_code(rows: Rows, number: Callable[[Values], Code]) -> TableCode:
    """The code of a table.

    Args:
        rows: Training rows.
        number: Fits the code of a number to its values, in which missing ones are NaN.
    """
    codes: list[Code] = []
    for column in rows.schema.columns:
        category = column.type == "category"
        codes.append(LevelCode(rows.codes(column).unique()) if category else number(rows.of(column)))
    return TableCode(rows.schema, tuple(codes))


def drawn_choices(logits: Entries, choices: list[slice], generator: torch.Generator) -> Entries:
    """Logits with Gumbel noise on every choice: the largest is then drawn by its probability.

    Args:
        logits: Numbers, and the logits of choices.
        choices: The entries of each choice.
        generator: On the CPU.
    """
    noisy = logits.clone()
    for place in choices:
        noisy[:, place] += gumbel(noisy[:, place].shape, generator)
    return noisy


def gumbel(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Gumbel noise, -log(-log u)."""
    uniform = torch.rand(shape, generator=generator).clamp(1e-20, 1 - 2**-24)
    return -(-uniform.log()).log()


# ------------------------------------------------------------------------------------------- numbers by their quantiles


@dataclass(frozen=True)
class Quantiles:
    """A number as its place among the quantiles of the training rows, from 0 to 1; a missing one is a choice."""

    points: Float[Tensor, " quantile"]
    """The quantiles. They descend in a column without values."""
    missing: bool
    """Whether there is a choice of there and missing."""
    number = True

    @property
    def choices(self) -> int:
        """There, or missing."""
        return 2 * self.missing

    def encode(self, values: Values, generator: torch.Generator) -> Entries:
        """Places: in the middle of those that equal quantiles have, 0 of the smallest and 1 of the largest value.

        A missing value has ½.
        """
        gone = values.isnan()
        there = torch.where(gone, self.points[0], values).contiguous()
        low, high = interpolated(there, self.points, last=False), interpolated(there, self.points, last=True)
        place = (low + high) / 2
        place = torch.where(there >= self.points[-1], 1.0, place)
        place = torch.where(there <= self.points[0], 0.0, place)
        place = torch.where(gone, 0.5, place).unsqueeze(1)
        return torch.cat([place, F.one_hot(gone.long(), 2).double()], dim=1) if self.missing else place

    def decode(self, entries: Entries) -> Values:
        """The value at each place, between neighbouring quantiles."""
        steps = len(self.points) - 1
        place = entries[:, 0].clamp(0, 1) * steps
        below = place.floor().long().clamp(max=max(steps - 1, 0))
        above = (below + 1).clamp(max=steps)
        values = self.points[below] + (self.points[above] - self.points[below]) * (place - below)
        gone = entries[:, 1] < entries[:, 2] if self.missing else torch.zeros(len(entries), dtype=torch.bool)
        gone = gone | (self.points[0] > self.points[-1])
        return torch.where(gone, torch.nan, values)

    def tensors(self) -> dict[str, Tensor]:
        """The quantiles, to be saved."""
        return {"points": self.points, "missing": torch.tensor(self.missing)}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The quantiles whose `tensors` these are."""
        return cls(tensors["points"], bool(tensors["missing"]))


def quantiles_of(values: Values, most: int = 2000) -> Quantiles:
    """At most so many quantiles of a number in which missing values are NaN."""
    there = values[~values.isnan()].sort().values
    if not len(there):
        return Quantiles(torch.tensor([1.0, 0.0]).double(), True)
    places = torch.linspace(0, 1, max(2, min(most, len(there))), dtype=torch.float64) * (len(there) - 1)
    below = places.floor().long().clamp(max=max(len(there) - 2, 0))
    above = (below + 1).clamp(max=len(there) - 1)
    return Quantiles(there[below] + (there[above] - there[below]) * (places - below), len(there) < len(values))


def interpolated(values: Values, points: Float[Tensor, " quantile"], *, last: bool) -> Values:
    """The place of each value among sorted points, from 0 to 1: of equal points the first or the last one."""
    steps = len(points) - 1
    if last:
        below = (torch.searchsorted(points, values, right=True) - 1).clamp(0, steps)
        above = (below + 1).clamp(max=steps)
    else:
        above = torch.searchsorted(points, values, right=False).clamp(0, steps)
        below = (above - 1).clamp(min=0)
    gap = points[above] - points[below]
    share = torch.where(
        gap > 0, (values - points[below]) / gap, torch.zeros_like(gap) if last else torch.ones_like(gap)
    )
    return (below + (above - below) * share.clamp(0, 1)) / steps
