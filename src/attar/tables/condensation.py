"""What all methods that make a table have in common: the number of rows, and a generator that is fitted in a run."""

import copy
import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar

from torch import nn

from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.settings import Hidden, Range, Settings
from attar.core.state import rebuilt
from attar.tables.artefact import Generator, Origin, SyntheticTable
from attar.tables.sources import Rows, TableSource

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class TableMethod(Settings):
    """Settings of a method that makes a table out of a larger one."""

    rows: Annotated[int, Range(1)] | None = None
    """Number of rows of the result. Default: as many as there are training rows."""

    kind = "tables"
    of_real_rows = False
    """Whether the result is a choice of real rows."""

    @property
    def total_steps(self) -> int:
        """Number of steps of the run. 0 if the table is made at once."""
        return 0

    def resolve(self, source: TableSource, runtime: Runtime) -> Self:
        """The same settings with the number of rows filled in.

        Raises:
            InputError: Real rows are chosen, and fewer are there.
        """
        if self.of_real_rows and self.rows is not None and self.rows > len(source.train):
            raise InputError(
                f"rows is {self.rows}, but {source.name} has {len(source.train)} training rows. Give fewer."
            )
        return dataclasses.replace(self, rows=self.rows or len(source.train))

    def made(self, source: TableSource, runtime: Runtime) -> Rows:
        """The rows, of a method that makes them at once."""
        raise NotImplementedError

    def build(self, source: TableSource, runtime: Runtime) -> Any:
        """The state before the first step; of a method without steps, the result."""
        return Finished(source, self.made(source, runtime))

    def step(self, state: Any, runtime: Runtime) -> Metrics:
        """One update; there is none without steps."""
        return {}

    def result(self, state: Any, runtime: Runtime) -> SyntheticTable:
        """The table."""
        return SyntheticTable(state.rows, Origin.made(state.source, self, runtime, full=len(state.source.train)))


@dataclass
class Finished:
    """The source and the result of a method without steps."""

    source: TableSource = rebuilt()
    rows: Rows = rebuilt()


@dataclass(frozen=True, kw_only=True)
class Generated(TableMethod):
    """Settings of a method that fits a generator to the training rows and draws a table from it."""

    @abstractmethod
    def generator_of(self, state: Any) -> Generator:
        """The generator in its present state."""

    def result(self, state: Any, runtime: Runtime) -> SyntheticTable:
        """A table from the present generator. The draws of later steps do not depend on it."""
        assert self.rows is not None, "resolve it first"
        fitted = self.generator_of(state)
        rows = fitted.sample(self.rows, derived_seed(runtime.seed, "table"))
        origin = Origin.made(state.source, self, runtime, full=len(state.source.train))
        return SyntheticTable(rows, origin, generator=fitted)


@dataclass(frozen=True, kw_only=True)
class Trained(Generated):
    """Settings of a generator that learns by steps, epoch after epoch."""

    batch: Annotated[int, Range(1)] = 500
    """Batch size, in rows. A table of fewer rows is one batch."""
    epochs: Annotated[int, Range(1)] = 300
    """Passes over the training data."""
    samples: Annotated[int, Hidden()] = 0
    """Number of training rows; filled in from the data."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch. The last batch has the rows that are left."""
        return -(-self.samples // self.batch)

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return self.epochs * self.steps_per_epoch

    def resolve(self, source: TableSource, runtime: Runtime) -> Self:
        """The same settings with the numbers of rows filled in."""
        return dataclasses.replace(super().resolve(source, runtime), samples=len(source.train))


def kept(network: N) -> N:
    """A copy of a network on the CPU, which later steps do not change."""
    return copy.deepcopy(network).cpu().requires_grad_(False)
