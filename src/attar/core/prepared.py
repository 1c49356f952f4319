"""What was prepared for a run: networks that are trained beside it, now or earlier, and what they cost."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attar.core import store


class Prepared:
    """The trainings that a run rests on. Each has a run folder of its own, with its own cost."""

    def __init__(self) -> None:
        self._costs: dict[Path, float] = {}
        self._aside = 0.0
        self._inside = False

    @property
    def seconds(self) -> float:
        """Seconds that they took when they were made, however often they are read since."""
        return sum(self._costs.values())

    @property
    def aside(self) -> float:
        """Seconds of this process that went into making and reading them."""
        return self._aside

    def count(self, folder: Path) -> None:
        """Count a finished training by its folder. Nothing is counted twice, and nothing whose cost is unknown."""
        seconds = store.read_cost(folder / "run" / "cost.json")["seconds"]
        if seconds is not None:
            self._costs[folder.resolve()] = seconds

    @contextmanager
    def making(self) -> Iterator[None]:
        """Measure the time within, which is counted by the folders and not as time of the run."""
        if self._inside:
            yield
            return
        began, self._inside = time.monotonic(), True
        try:
            yield
        finally:
            self._inside = False
            self._aside += time.monotonic() - began
