"""Real rows chosen class by class: how many real rows do as well as a synthetic table of so many?

They are random selection, herding (Welling, ICML 2009), and greedy K-center (Sener and Savarese, ICLR 2018,
arXiv:1708.00489). The classes are the two outcomes, and each has its share of the training rows. Rows are compared as
lines of a matrix: numbers standardised, a column for each level of a category, the sensitive attribute among them, the
label not. A choice of real rows is no synthetic table: it hands on what it chooses, word for word.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.selection import Features, draw_by_class, herding, in_proportion, k_center, rows_by_class
from attar.tables.condensation import TableMethod
from attar.tables.design import design
from attar.tables.sources import Index, Rows, TableSource


@dataclass(frozen=True, kw_only=True)
class TableCoreset(TableMethod):
    """A selection of real rows, of each class in proportion to what it has."""

    of_real_rows = True

    def resolve(self, source: TableSource, runtime: Runtime) -> Self:
        """The same settings with the number of rows filled in.

        Raises:
            InputError: More rows than there are, or fewer than classes.
        """
        made = super().resolve(source, runtime)
        classes = len(rows_of(source))
        assert made.rows is not None
        if made.rows < classes:
            raise InputError(f"rows is {made.rows}, but {source.name} has {classes} classes. Give {classes} or more.")
        return made

    @abstractmethod
    def choose(self, source: TableSource, counts: tuple[int, ...], runtime: Runtime) -> list[Index]:
        """The training rows that are chosen, by class."""

    def made(self, source: TableSource, runtime: Runtime) -> Rows:
        """The chosen rows, class after class."""
        assert self.rows is not None, "resolve it first"
        counts = in_proportion(rows_of(source), self.rows)
        return source.train.select(torch.cat(self.choose(source, counts, runtime)))


@dataclass(frozen=True, kw_only=True)
class TableRandom(TableCoreset):
    """Real rows drawn at random, without replacement: the lowest baseline at equal rows."""

    name = "table-random"

    def choose(self, source: TableSource, counts: tuple[int, ...], runtime: Runtime) -> list[Index]:
        """Draw rows at random."""
        return draw_by_class(rows_of(source), counts, runtime.generator("choice"))


@dataclass(frozen=True, kw_only=True)
class MatrixCoreset(TableCoreset):
    """A selection of real rows by their places in the matrix of the table."""

    @abstractmethod
    def of_class(self, features: Features, count: int) -> Int[Tensor, " {count}"]:
        """The places of the chosen rows among those of one class."""

    def choose(self, source: TableSource, counts: tuple[int, ...], runtime: Runtime) -> list[Index]:
        """Choose by each class's part of the matrix."""
        matrix = design(source.schema, with_sensitive=True).fit(source.train).matrix(source.train)
        pairs = zip(rows_of(source), counts, strict=True)
        return [rows[self.of_class(matrix[rows], count)] for rows, count in pairs]


@dataclass(frozen=True, kw_only=True)
class TableHerding(MatrixCoreset):
    """Real rows whose mean is close to the mean of their class (Welling, ICML 2009).

    Herding Dynamical Weights to Learn. Prefer it if the rows must be real and few.
    """

    name = "table-herding"

    def of_class(self, features: Features, count: int) -> Int[Tensor, " {count}"]:
        """Choose rows one by one, so that their mean stays close to the class mean."""
        return herding(features, count)


@dataclass(frozen=True, kw_only=True)
class TableKCenter(MatrixCoreset):
    """Real rows that cover a class: each new row is the farthest from those already chosen.

    Sener and Savarese, Active Learning for CNNs: A Core-Set Approach, ICLR 2018, arXiv:1708.00489. It takes outliers
    first, so that few rows of it are a poor sample.
    """

    name = "table-k-center"

    def of_class(self, features: Features, count: int) -> Int[Tensor, " {count}"]:
        """Choose rows one by one, each the farthest from those already chosen."""
        return k_center(features, count)


@dataclass(frozen=True, kw_only=True)
class ShuffledLabels(TableMethod):
    """Real rows with their labels exchanged at random: fair, because nothing is left to learn.

    Every fair table is read beside it. A method whose classifier does no better has destroyed the labels.
    """

    of_real_rows = True
    name = "shuffled-labels"

    def made(self, source: TableSource, runtime: Runtime) -> Rows:
        """Rows at random, with the labels of one another."""
        generator = runtime.generator("choice")
        rows = source.train.select(torch.randperm(len(source.train), generator=generator)[: self.rows])
        order = torch.randperm(len(rows), generator=generator)
        return rows.replaced(rows.schema.label, rows.of(rows.schema.label)[order])


def rows_of(source: TableSource) -> tuple[Index, ...]:
    """The training rows of each class that has any."""
    labels = source.train.labels
    return rows_by_class(labels, labels.unique().tolist())
