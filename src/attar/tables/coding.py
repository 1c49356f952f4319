"""A table as a matrix for a generator, and back: of each column a number, a choice of one among several, or both.

A category is a choice of its level. What a number becomes is up to the method. Everything is fitted to training rows,
and what is drawn is a table of the same schema: whole numbers whole, none outside of what the training rows have, and
missing numbers missing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.tables.sources import Column, Rows, Schema

Entries = Float[Tensor, "row entry"]
Values = Float[Tensor, " row"]


class Code(Protocol):
    """What becomes of a column: at most one number, then at most one choice."""

    number: bool
    """Whether it has a number."""
    choices: int
    """Among how many it has to choose; 0 for none."""

    def encode(self, values: Values, generator: torch.Generator) -> Entries:
        """The entries of the column's values."""

    def decode(self, entries: Entries) -> Values:
        """The values of entries, of which each choice is the largest one."""

    def tensors(self) -> dict[str, Tensor]:
        """What was fitted, to be saved."""


@dataclass(frozen=True)
class LevelCode:
    """A category as the choice of its level."""

    choices: int
    number = False

    def encode(self, values: Values, generator: torch.Generator) -> Entries:
        """A one at the level of each row."""
        return F.one_hot(values.long(), self.choices).double()

    def decode(self, entries: Entries) -> Values:
        """The number of the largest entry."""
        return entries.argmax(dim=1).double()

    def tensors(self) -> dict[str, Tensor]:
        """Nothing is fitted."""
        return {}


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

    def choice_of(self, column: Column) -> slice:
        """The entries of a category."""
        return next(span.place for span in self.spans if span.column == column.name and span.choice)

    def encode(self, rows: Rows, generator: torch.Generator) -> Entries:
        """The rows as a matrix, in float32."""
        pairs = zip(self.schema.columns, self.codes, strict=True)
        return torch.cat([code.encode(rows.of(column), generator) for column, code in pairs], dim=1).float()

    def decode(self, entries: Entries) -> Rows:
        """The rows of a matrix."""
        columns, start, entries = [], 0, entries.double().cpu()
        for column, code in zip(self.schema.columns, self.codes, strict=True):
            stop = start + code.number + code.choices
            values = code.decode(entries[:, start:stop])
            columns.append(values.round() if column.whole else values)
            start = stop
        return Rows(self.schema, torch.stack(columns, dim=1))

    def tensors(self) -> dict[str, Tensor]:
        """What was fitted, to be saved."""
        named = [(place, code.tensors()) for place, code in enumerate(self.codes)]
        return {f"{place}.{name}": tensor for place, tensors in named for name, tensor in tensors.items()}

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
            mine = {name.partition(".")[2]: one for name, one in tensors.items() if name.startswith(f"{place}.")}
            codes.append(LevelCode(len(column.levels)) if column.type == "category" else number(mine))
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
        codes.append(LevelCode(len(column.levels)) if category else number(rows.of(column)))
    return TableCode(rows.schema, tuple(codes))
