"""Rows of a table as input of a network, and back: the schema and the design that a classifier of rows keeps.

A row becomes an image of one pixel, whose channels are the features of the design. Rows that are predicted for are read
as test rows are: a value of a feature that is no level of its column counts as none of them, a missing number as the
mean of the training rows, and other columns are ignored. A sensitive value must be one that training rows had.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.classifiers.encoder import Answer, Encoder, Input, Measures
from attar.core.errors import InputError, shortened
from attar.core.runtime import Runtime
from attar.images.data.arrow import Table
from attar.images.data.naming import few
from attar.images.data.pixels import InMemory, Split
from attar.images.data.whiten import Transform
from attar.images.sources import ImageSource
from attar.tables.data.columns import arrow_of, stored, values_of, values_or_nan
from attar.tables.data.found import found_in
from attar.tables.data.known import recognised
from attar.tables.design import Design, design
from attar.tables.sources import Column, Rows, Schema, TableSource

USUAL = "usual"
"""The preparation of known tables that is not turned off."""


@dataclass(frozen=True)
class RowEncoder(Encoder):
    """What makes network input of rows."""

    design: Design
    """Fitted on training rows."""
    preparation: str = USUAL
    """Whether tables that are known by their columns are prepared, as the reading has it."""

    things = "rows"
    pipeline = "tabular-classification"
    tag = "tabular"
    columns = ("AUROC", "DPD", "EOD")

    @classmethod
    def fitted(cls, source: TableSource) -> Self:
        """That of a table's training rows; sensitive columns are among the features.

        Raises:
            InputError: There are no features.
        """
        made = design(source.schema, with_sensitive=True).fit(source.train)
        return cls(made, source.preparation)

    @property
    def schema(self) -> Schema:
        """The columns of the table."""
        return self.design.schema

    @property
    def told(self) -> str:
        """What it takes and what is answered."""
        label = self.schema.label
        sensitive = [column.name for column in self.design.columns if column.role == "sensitive"]
        reads = f" It reads the sensitive column {few(sensitive)}." if sensitive else ""
        return (
            f"It takes rows with the columns {few(list(map(_name, self.design.columns)))}, and answers with the "
            f"probabilities of {' and '.join(label.levels)} in {_name(label)}; {self.schema.positive} is the desirable "
            f"outcome.{reads}"
        )

    @property
    def example(self) -> str:
        """Lines of code in which `classifier` answers."""
        return "probabilities = classifier.predict_proba(frame)  # a DataFrame, a pyarrow.Table, a file\n" + (
            "labels = classifier.predict(frame)"
        )

    def tensors(self) -> dict[str, Tensor]:
        """The statistics of the training rows."""
        return self.design.tensors()

    def facts(self) -> dict[str, Any]:
        """The schema, and how the table was read."""
        return {
            "schema": self.schema.to_json(),
            "with_sensitive": self.design.with_sensitive,
            "preparation": self.preparation,
        }

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Self:
        """The inverse."""
        made = design(Schema.from_json(facts["schema"]), with_sensitive=facts["with_sensitive"])
        return cls(made.with_tensors(tensors), facts["preparation"])

    def input_of(self, data: Any) -> Input:
        """Rows as the network takes them.

        Args:
            data: A DataFrame, a pyarrow.Table, a file, a `datasets` data set, `Rows`, or the test rows of a source.

        Raises:
            InputError: A column is missing, holds something else than in training, or has a new sensitive value.
        """
        return pixels(self.matrix(data))

    def matrix(self, data: Any) -> Float[Tensor, "row feature"]:
        """Rows as numbers, in float64; arguments as for `input_of`."""
        rows = data.test if isinstance(data, TableSource) else data
        if isinstance(rows, Rows) and rows.schema == self.schema:
            return self.design.matrix(rows)
        if isinstance(rows, Rows):
            name = data.name if isinstance(data, TableSource) else "the table"
            table = Table(name, arrow_of(rows), count=len(rows))
        else:
            table = self._prepared(found_in(rows).train)
        values = np.stack([self._values(table, column) for column in self.schema.columns], axis=1)
        return self.design.matrix(Rows(self.schema, torch.from_numpy(values)))

    def _prepared(self, table: Table) -> Table:
        """A known table as it is usually prepared, unless rows would be left out."""
        known = recognised(table) if self.preparation == USUAL else None
        changed = table if known is None else known.prepare(table)
        return changed if len(changed) == len(table) else table

    def _values(self, table: Table, column: Column) -> np.ndarray:
        if column not in self.design.columns:
            return np.full(len(table), np.nan)
        return values_or_nan(table, column) if column.role == "feature" else values_of(table, column)

    def named(self, classes: tuple[str, ...], numbers: Int[Tensor, " row"]) -> np.ndarray:
        """The labels, in the type that their column has."""
        label = self.schema.label
        codes = np.asarray([label.levels.index(name) for name in classes], dtype=np.float64)
        return np.asarray(stored(codes[numbers.numpy()], label).to_pylist())

    def of(self, source: Any) -> ImageSource:
        """The rows of a table as the network takes them.

        Raises:
            InputError: It is no table, or not one with these columns.
        """
        if isinstance(source, RowSource):
            return source if source.encoder is self else seen_through(self, source.table)
        if not isinstance(source, TableSource):
            told = shortened(str(getattr(source, "name", type(source).__name__)))
            raise InputError(f"the classifier takes rows of a table, but {told} is none. Give the table.")
        return seen_through(self, source)

    def measured(self, source: ImageSource, classes: tuple[str, ...], answer: Answer) -> Measures:
        """AUROC, and with a sensitive column the gaps between groups."""
        from attar.tables.judging import judged

        return judged(self, _table(source), classes, answer)

    def rivals(self, source: ImageSource, made: Any, runtime: Runtime) -> dict[str, Measures]:
        """Gradient-boosted trees on the rows that the classifier has seen, and the more frequent label."""
        from attar.tables.judging import rivals

        return rivals(_table(source), made, self, runtime)


@dataclass(frozen=True)
class RowSource(ImageSource):
    """The rows of a table as images of one pixel."""

    table: TableSource = field(kw_only=True, compare=False, repr=False)
    """The table as it was read; parts of this source keep the whole of it."""
    encoder: RowEncoder = field(kw_only=True, compare=False, repr=False)
    refitted: bool = field(default=False, kw_only=True, compare=False)
    """Whether another split has an encoder of its own."""

    things: ClassVar[str] = "rows"

    def at(self, split_seed: int) -> ImageSource:
        """The same table, split by another seed.

        Raises:
            InputError: It was not split by a seed, or this is a part of it.
        """
        if self.rows is None:
            raise InputError(f"{self.name} was not split by a seed, so it cannot be split by another seed.")
        other = self.table.at(split_seed)
        return as_images(other) if self.refitted else seen_through(self.encoder, other)


def as_images(source: TableSource | ImageSource) -> ImageSource:
    """The rows as images of one pixel, a channel for each feature, by the statistics of the training rows.

    Class 1 is the desirable outcome.

    Raises:
        InputError: There are no features.
    """
    if isinstance(source, ImageSource):
        return source
    return dataclasses.replace(seen_through(RowEncoder.fitted(source), source), refitted=True)


def seen_through(encoder: RowEncoder, source: TableSource) -> RowSource:
    """The rows of a table as images of one pixel, as an encoder makes them.

    Raises:
        InputError: The table has other columns than the encoder's.
    """
    schema = source.schema
    classes = sorted(schema.label.levels, key=lambda level: level == schema.positive)
    train, test = (Split(InMemory(pixels(encoder.matrix(rows))), rows.labels) for rows in (source.train, source.test))
    count = train.pixels.shape[0]
    whole = torch.arange(len(train) + len(test))
    return RowSource(
        source.name,
        tuple(classes),
        train,
        test,
        Transform((0.0,) * count, (1.0,) * count),
        statistics="those of the training rows",
        split=source.split,
        flips=False,
        rows=None if source.again is None else (whole[: len(train)], whole[len(train) :]),
        notes=source.notes,
        table=source,
        encoder=encoder,
    )


def pixels(matrix: Float[Tensor, "row feature"]) -> Input:
    """Rows of numbers as images of one pixel."""
    return matrix.float()[:, :, None, None].contiguous()


def _name(column: Column) -> str:
    """The column of the file that a column is made of."""
    return column.of or column.name


def _table(source: ImageSource) -> TableSource:
    assert isinstance(source, RowSource), "see it through an encoder first"
    return source.table
