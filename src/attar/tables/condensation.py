"""What all methods that make a table have in common: the number of rows, and a generator that is fitted in a run."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Self

from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings
from attar.tables.artefact import Origin, SyntheticTable
from attar.tables.sources import Rows, TableSource


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

    source: TableSource
    rows: Rows
