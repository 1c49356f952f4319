"""A table as a matrix of numbers, for whatever learns from numbers: the downstream classifiers, rivals and coresets.

A number is standardised by the mean and the deviation of the fitted rows; a missing one counts as the mean, with an
indicator beside it. A category has a column for each of its levels; a level that the fitted rows lack is all zeros.
The label is not in the matrix, unless rows themselves are compared.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.tables.sources import Column, Role, Rows, Schema

Matrix = Float[Tensor, "row feature"]
SMALLEST = 1e-12
"""A deviation below which a number counts as constant, as a share of its mean's size."""


@dataclass
class Design:
    """What becomes of each column, with the statistics of the rows that it was fitted on."""

    schema: Schema
    with_sensitive: bool
    """Whether sensitive columns are in the matrix."""
    with_label: bool = False
    """Whether the label is; what learns must not see it."""
    shift: Float[Tensor, " feature"] | None = None
    """What is subtracted from each column of the matrix: the mean of a number, 0 of a level. None before the fit."""
    scale: Float[Tensor, " feature"] | None = None
    """What each column is multiplied by: one over the deviation of a number; 1 of a level, or 0 if it was not seen."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table that are in the matrix."""
        asked: dict[Role, bool] = {"feature": True, "sensitive": self.with_sensitive, "label": self.with_label}
        roles = [role for role, wanted in asked.items() if wanted]
        return self.schema.of_role(*roles)

    @property
    def widths(self) -> tuple[int, ...]:
        """For each of `columns`, how many columns of the matrix it has."""
        return tuple(width(column) for column in self.columns)

    @property
    def features(self) -> tuple[str, ...]:
        """The name of each column of the matrix."""
        return tuple(name for column in self.columns for name in _names(column))

    def fit(self, rows: Rows) -> Self:
        """Take the statistics of these rows; return itself.

        Raises:
            InputError: No column is left to learn from, or there are no rows.
        """
        if not self.columns:
            raise InputError("the table has no columns to learn from besides the label and the sensitive column.")
        if not len(rows):
            raise InputError("there are no rows to fit a design on. Give at least one.")
        raw = self._raw(rows)
        self.shift, self.scale = torch.zeros(raw.shape[1]).double(), torch.ones(raw.shape[1]).double()
        for column, place in self._places():
            if column.type == "category":
                self.scale[place] = (raw[:, place] > 0).any(dim=0).double()
            else:
                known = raw[:, place.start][raw[:, place.start].isfinite()]
                if len(known):
                    mean, deviation = known.mean(), known.std(correction=0)
                    self.shift[place.start] = mean
                    constant = deviation <= SMALLEST * mean.abs().clamp(min=1)
                    self.scale[place.start] = 1.0 if constant else 1 / deviation
        return self

    def matrix(self, rows: Rows) -> Matrix:
        """The rows as numbers, in float64.

        Raises:
            InputError: The design is not fitted yet.
        """
        if self.shift is None or self.scale is None:
            raise InputError("the design is not fitted yet. Call fit with training rows first.")
        return ((self._raw(rows) - self.shift) * self.scale).nan_to_num(nan=0.0)

    def tensors(self) -> dict[str, Tensor]:
        """The statistics, to be saved."""
        assert self.shift is not None and self.scale is not None, "fit it first"
        return {"shift": self.shift, "scale": self.scale}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Self:
        """Take the statistics that `tensors` gave; return itself."""
        self.shift, self.scale = tensors["shift"].double(), tensors["scale"].double()
        return self

    def _places(self) -> Iterator[tuple[Column, slice]]:
        start = 0
        for column, size in zip(self.columns, self.widths, strict=True):
            yield column, slice(start, start + size)
            start += size

    def _raw(self, rows: Rows) -> Matrix:
        """Numbers as they are, levels as zeros and a one."""
        parts = []
        for column in self.columns:
            values = rows.of(column)
            if column.type == "category":
                parts.append(one_hot(values, len(column.levels)))
            else:
                parts += [values.unsqueeze(1), *([values.isnan().double().unsqueeze(1)] if column.missing else [])]
        return torch.cat(parts, dim=1)


def design(schema: Schema, *, with_sensitive: bool, with_label: bool = False) -> Design:
    """The design of a table, not fitted yet.

    Args:
        schema: The columns of the table.
        with_sensitive: Whether the sensitive columns are in the matrix.
        with_label: Whether the label is in it too.
    """
    return Design(schema, with_sensitive, with_label)


def width(column: Column) -> int:
    """How many columns of the matrix a column of the table has."""
    return len(column.levels) if column.type == "category" else 1 + column.missing


def one_hot(codes: Float[Tensor, " row"], levels: int) -> Float[Tensor, "row level"]:
    """A one at each row's level; zeros where the number of the level is none of them."""
    known = (codes >= 0) & (codes < levels)  # False of NaN
    ones = F.one_hot(torch.where(known, codes, torch.zeros_like(codes)).long(), levels).double()
    return ones * known.double().unsqueeze(1)


def _names(column: Column) -> tuple[str, ...]:
    if column.type == "category":
        return tuple(f"{column.name}={level}" for level in column.levels)
    return (column.name, *([f"{column.name} is missing"] if column.missing else []))
