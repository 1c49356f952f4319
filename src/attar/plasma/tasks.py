"""What stands beside a simulation, and beside an emulator."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from attar.core import tasks
from attar.core.settings import Hidden


@dataclass(frozen=True, kw_only=True)
class Simulate(tasks.Task):
    """What a simulation needs besides its settings."""

    measured = False

    def source(self, data: Any, reading: tasks.Reading) -> Any:
        """A run or columns; None where nothing is read."""
        return reading.load(data) if data else None

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """What a method works on, as it says itself."""
        return method.prepared(source, self, runtime), method


@dataclass(frozen=True, kw_only=True)
class Distill(tasks.Task):
    """What stands beside an emulator: the code that answers columns which have no answers yet."""

    teacher: Literal["slab", "lightweaver"] = "slab"
    """Code that computes the line profiles of columns that have none: slab (one line in LTE), or lightweaver."""
    module: Annotated[Any, Hidden()] = None
    """A student of the caller's own."""

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """Columns with their profiles."""
        return method.prepared(source, self, runtime), method
