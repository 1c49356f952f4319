"""What stands beside a simulation, and beside an emulator."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from attar.core import tasks
from attar.core.errors import InputError
from attar.core.settings import Hidden, Range, Words


@dataclass(frozen=True, kw_only=True)
class Simulate(tasks.Task):
    """What a simulation needs besides its settings."""

    workers: Annotated[int, Range(1)] = 1
    """Number of tasks that Ray does at once on this machine, with one core each. Only spectra are
    shared so, column by column."""
    address: str | None = None
    """Address of a Ray cluster to do tasks on. Only spectra are shared so, column by column."""

    measured = False

    def source(self, data: Any, reading: tasks.Reading) -> Any:
        """A run or columns; None where nothing is read."""
        return None if data is None or (isinstance(data, str) and not data) else reading.load(data)

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """What a method works on, as it says itself.

        Raises:
            InputError: Workers are asked for, and the method does all in one process.
        """
        if (self.workers > 1 or self.address is not None) and not getattr(method, "by_workers", False):
            raise InputError(f"{method.name} works in one process. Leave out --workers and --address.")
        return method.prepared(source, self, runtime), method


@dataclass(frozen=True, kw_only=True)
class Distill(tasks.Task):
    """What stands beside an emulator: the code that answers columns which have no answers yet."""

    teacher: Annotated[Any, Words()] = None
    """A trained network or code that computes line profiles, for columns that have none: slab (Ca II K in LTE),
    lightweaver (Ca II K out of it, by Lightweaver), or the folder of an emulator. Default: slab."""
    module: Annotated[Any, Hidden()] = None
    """A student of the caller's own; it is not changed."""

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """Columns with their profiles."""
        return method.prepared(source, self, runtime), method

    def open(self, folder: Path, kind: Any) -> Any:
        """Read a finished emulator. A module of the caller's own can be built only by the caller."""
        if self.module is None:
            return kind.load(folder)
        return kind.made.load(folder, build=lambda: copy.deepcopy(self.module))

    def score(self, made: Any, work: Any, method: Any, runtime: Any) -> Any:
        """The emulator with what it takes for a column."""
        return made.timed(work.columns)
