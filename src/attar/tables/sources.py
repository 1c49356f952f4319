"""A table as methods see it: a schema, and rows of numbers for training and testing."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError, shortened, unknown
from attar.core.notebook import Told
from attar.core.settings import Range, Settings
from attar.images.data.naming import few

Role = Literal["feature", "sensitive", "label", "ignored"]
Type = Literal["number", "category"]
Values = Float[Tensor, "row column"]
Index = Int[Tensor, " _row"]


@dataclass(frozen=True, kw_only=True)
class Column(Settings):
    """One column of a table."""

    name: str
    """Its name."""
    role: Role = "feature"
    """What it is for. An ignored column is not read, and is not in synthetic tables."""
    type: Type = "number"
    """Whether its values are numbers or one of some levels. Dates are numbers: days since 1970."""
    levels: tuple[str, ...] = ()
    """The levels of a category, in order: those that are known, that of missing values, that of all others. In a schema
    that is given they may be left out; then they are those of the training rows."""
    whole: bool = False
    """Whether the numbers are whole."""
    missing: bool = False
    """Whether values may be missing: NaN of a number; a level of its own, after the known ones, of a category."""
    other: bool = False
    """Whether the last level of a category stands for all values that are no level."""
    stored: str = "double"
    """Type of the column in the file, by its name in Arrow; synthetic tables have it too."""
    buckets: Annotated[int, Range(0)] = 0
    """Number of levels into which values are hashed. 0: they are not hashed."""
    of: str = ""
    """Column of the file that is divided in two, false and true, and replaced by this one; empty of a column itself."""
    below: float | None = None
    """Number below which a value of that column counts as true."""
    equals: str = ""
    """Level of that column that counts as true."""

    def __post_init__(self) -> None:
        super().__post_init__()
        told = f"column {shortened(self.name)!r}"
        if len(set(self.levels)) < len(self.levels):
            raise InputError(f"{told} has a level twice; give each once.")
        if self.type == "number" and (self.levels or self.other or self.buckets or self.of):
            raise InputError(f"{told} holds numbers, which have no levels. Set its type to category.")
        if bool(self.of) != (self.below is not None or bool(self.equals)):
            raise InputError(f"{told} needs of and below, of and equals, or none of them.")
        if self.role in ("label", "sensitive") and self.type != "category":
            raise InputError(f"{told} is {self.role}, so its type must be category.")

    @property
    def known(self) -> tuple[str, ...]:
        """The levels without those of missing and of other values."""
        return self.levels[: len(self.levels) - self.missing - self.other] if self.type == "category" else ()

    @property
    def missing_code(self) -> int | None:
        """The number of the level of missing values."""
        return len(self.known) if self.type == "category" and self.missing else None

    @property
    def other_code(self) -> int | None:
        """The number of the level of values that are no level."""
        return len(self.levels) - 1 if self.other else None

    @property
    def dated(self) -> bool:
        """Whether the numbers are days since 1970."""
        return self.type == "number" and self.stored.startswith(("date", "timestamp"))


@dataclass(frozen=True, kw_only=True)
class Schema(Settings):
    """The columns of a table, and which level of the label is the desirable outcome."""

    columns: tuple[Column, ...]
    """The columns, in the order of the file."""
    positive: str
    """The level of the label that is the desirable outcome."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [column.name for column in self.columns]
        twice = Counter(names).most_common(1)
        if twice and twice[0][1] > 1:
            raise InputError(f"the schema has two columns of the name {shortened(twice[0][0])!r}. Give each once.")
        labels = self.of_role("label")
        if len(labels) != 1:
            raise InputError(f"the schema has {len(labels)} labels; give one.")
        if len(labels[0].levels) not in (0, 2):
            told = f"label {labels[0].name!r} has {len(labels[0].levels)} values ({few(labels[0].levels)})"
            raise InputError(f"{told}; give a label with two.")
        if labels[0].levels and self.positive not in labels[0].levels:
            raise unknown(f"outcome of label {labels[0].name!r}", self.positive, labels[0].levels)

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """The inverse of `to_json`."""
        if isinstance(values, Mapping) and isinstance(values.get("columns"), (list, tuple)):
            several = [one if isinstance(one, Column) else Column.from_json(one) for one in values["columns"]]
            values = {**values, "columns": several}
        return super().from_json(values)

    def index(self, name: str) -> int:
        """The number of a column.

        Raises:
            InputError: There is no such column.
        """
        if name not in self._places:
            raise unknown("column", name, self._places)
        return self._places[name]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {column.name: place for place, column in enumerate(self.columns)}

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


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a table. A number is itself, a level of a category its number, a missing number NaN."""

    schema: Schema
    values: Values
    """In float64, a column for each of the schema's, in its order."""

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows) or self.schema != other.schema or self.values.shape != other.values.shape:
            return False
        same = (self.values == other.values) | (self.values.isnan() & other.values.isnan())
        return bool(same.all())

    def __hash__(self) -> int:
        return hash(tuple(self.values.shape))

    def check(self, where: str) -> Self:
        """Check that every value is one that its column may have; return the rows.

        Raises:
            InputError: One is infinite or missing where none may be, or is the number of no level.
        """
        names = self.schema.columns
        if self.values.ndim != 2 or self.values.shape[1] != len(names):
            raise InputError(f"{where} has values of shape {tuple(self.values.shape)} for {len(names)} columns.")
        for place, column in enumerate(names):
            values = self.values[:, place]
            fine = values.isfinite() | (values.isnan() if column.type == "number" and column.missing else False)
            if column.type == "category":
                fine = fine & (values >= 0) & (values < len(column.levels)) & (values == values.floor())
            if not bool(fine.all()):
                row = int((~fine).nonzero()[0])
                raise InputError(f"row {row} of {where} has {float(values[row]):g} in column {column.name!r}.")
        return self

    def select(self, rows: Index) -> "Rows":
        """Only these rows, in this order."""
        return Rows(self.schema, self.values[rows])

    def of(self, column: Column | str) -> Float[Tensor, " row"]:
        """The values of a column."""
        place = self.schema.index(column if isinstance(column, str) else column.name)
        return self.values[:, place].contiguous()

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

    def replaced(self, column: Column | str, values: Float[Tensor, " row"] | Int[Tensor, " row"]) -> "Rows":
        """The same rows with other values in one column."""
        values_of_all = self.values.clone()
        values_of_all[:, self.schema.index(column if isinstance(column, str) else column.name)] = values.double()
        return Rows(self.schema, values_of_all)


@dataclass(frozen=True)
class TableSource(Told):
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
    preparation: str = field(default="usual", compare=False)
    """How tables that are known were prepared when they were read: as is usual, or not (none)."""

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
        return dataclasses.replace(self.again(split_seed), preparation=self.preparation)

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
