"""A table as methods see it: a schema, and rows of numbers for training and testing."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError, unknown
from attar.core.settings import Settings

Role = Literal["feature", "sensitive", "label", "ignored"]
Values = Float[Tensor, "row column"]
Index = Int[Tensor, " _row"]


@dataclass(frozen=True, kw_only=True)
class Column(Settings):
    """One column of a table."""

    name: str
    """Its name."""
    role: Role = "feature"
    """What it is for."""
    type: Literal["number", "category"] = "number"
    """Whether its values are numbers or one of some levels."""
    levels: tuple[str, ...] = ()
    """The levels of a category, in order. A missing value is a level of its own."""
    whole: bool = False
    """Whether the numbers are whole."""
    missing: bool = False
    """Whether values of a number may be missing. They are NaN."""
    stored: str = "double"
    """Type of the column in the file, by its name in Arrow; synthetic tables have it too."""


@dataclass(frozen=True, kw_only=True)
class Schema(Settings):
    """The columns of a table, and which level of the label is the desirable outcome."""

    columns: tuple[Column, ...]
    """The columns, in the order of the file."""
    positive: str
    """The level of the label that is the desirable outcome."""

    def index(self, name: str) -> int:
        """The number of a column.

        Raises:
            InputError: There is no such column.
        """
        names = [column.name for column in self.columns]
        if name not in names:
            raise unknown("column", name, names)
        return names.index(name)

    def column(self, name: str) -> Column:
        """A column by its name."""
        return self.columns[self.index(name)]

    def of_role(self, *roles: Role) -> tuple[Column, ...]:
        """The columns with one of these roles, in order."""
        return tuple(column for column in self.columns if column.role in roles)

    @property
    def label(self) -> Column:
        """The label, which has two levels."""
        return self.of_role("label")[0]

    @property
    def sensitive(self) -> Column:
        """The sensitive column, which has two levels or more.

        Raises:
            InputError: No column is sensitive.
        """
        found = self.of_role("sensitive")
        if not found:
            raise InputError("no column is sensitive. Name one by --sensitive.")
        return found[0]

    @property
    def groups(self) -> tuple[str, ...]:
        """The levels of the sensitive column."""
        return self.sensitive.levels


@dataclass(frozen=True)
class Rows:
    """Rows of a table. A number is itself, a level of a category its number, a missing number NaN."""

    schema: Schema
    values: Values
    """In float64, a column for each of the schema's, in its order."""

    def __len__(self) -> int:
        return len(self.values)

    def select(self, rows: Index) -> "Rows":
        """Only these rows, in this order."""
        return Rows(self.schema, self.values[rows])

    def of(self, column: Column | str) -> Float[Tensor, " row"]:
        """The values of a column."""
        return self.values[:, self.schema.index(column if isinstance(column, str) else column.name)]

    def codes(self, column: Column | str) -> Int[Tensor, " row"]:
        """The numbers of the levels of a category."""
        return self.of(column).long()

    @property
    def labels(self) -> Int[Tensor, " row"]:
        """1 where the label is the desirable outcome, else 0."""
        label = self.schema.label
        return (self.codes(label) == label.levels.index(self.schema.positive)).long()

    @property
    def groups(self) -> Int[Tensor, " row"]:
        """The number of each row's level of the sensitive column."""
        return self.codes(self.schema.sensitive)

    def replaced(self, column: Column | str, values: Float[Tensor, " row"]) -> "Rows":
        """The same rows with other values in one column."""
        values_of_all = self.values.clone()
        values_of_all[:, self.schema.index(column if isinstance(column, str) else column.name)] = values.double()
        return Rows(self.schema, values_of_all)


@dataclass(frozen=True)
class TableSource:
    """A table, split for training and testing."""

    name: str
    train: Rows
    test: Rows
    split: str = "given"
    """Split into training and test rows: "given", or "80/20 by seed N"."""
    again: Callable[[int], "TableSource"] | None = field(default=None, compare=False, repr=False)
    """A function that makes the source by another split seed; None if nothing depends on that."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was left out or decided when the table was read, in a sentence each."""

    @property
    def schema(self) -> Schema:
        """The columns."""
        return self.train.schema

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the schema and of every value; places of files do not matter."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps(self.schema.to_json(), sort_keys=True).encode())
        for part in (self.train, self.test):
            digest.update(json.dumps(list(part.values.shape)).encode())
            digest.update(part.values.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def is_of(self, fingerprint: str) -> bool:
        """Whether a fingerprint in an artefact's origin is that of this table in this split."""
        return fingerprint == self.fingerprint

    def at(self, split_seed: int) -> "TableSource":
        """The same table, split by another seed.

        Raises:
            InputError: It came with a split, or is a part of another table.
        """
        if self.again is None:
            raise InputError(f"{self.name} was not split by a seed, so it cannot be split by another seed.")
        return self.again(split_seed)

    def subset(self, rows: Index) -> "TableSource":
        """The same table with only these training rows."""
        return dataclasses.replace(self, train=self.train.select(rows), again=None)

    def __str__(self) -> str:
        schema = self.schema
        roles = [f"label {schema.label.name} ({schema.positive})"]
        roles += [f"sensitive {column.name} ({', '.join(column.levels)})" for column in schema.of_role("sensitive")]
        size = f"{len(self.train):,} training and {len(self.test):,} test rows, {len(schema.columns)} columns"
        line = f"{self.name}: {size}, {', '.join(roles)}, split {self.split}"
        return "\n".join([line, *(f"note: {note}" for note in self.notes)])
