"""When a checkpoint is due: by the clock as it was asked for, or so that all together take a small share of the time.

A checkpoint of cost c is due when a share s of the time since the beginning pays for it and for those before it, and
when it is (1 - s) / s times c since the last one. The cost is that of the last one; the first one's is estimated.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHARE = 0.05
"""The most of a run's time that checkpoints take."""
USUAL = 20.0
"""Seconds between checkpoints that cost little."""


class Pace:
    """The clock of a run's checkpoints."""

    def __init__(self, asked: float | None, estimate: Callable[[], float]) -> None:
        """Begin to count.

        Args:
            asked: Seconds between checkpoints, whatever they cost; None where their cost decides.
            estimate: What a checkpoint will cost, in seconds. Asked before the first one, if the cost decides.
        """
        self.asked = asked
        self.spent = 0.0
        """Seconds that went into checkpoints so far."""
        self._estimate = estimate
        self._cost: float | None = None
        self._began = self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        usual = USUAL if self.asked is None else self.asked
        return time.monotonic() - self._last >= usual and self.paid

    @property
    def paid(self) -> bool:
        """Whether a checkpoint now would keep to the share of the time. Always so where an interval was asked for."""
        if self.asked is not None:
            return True
        if self._cost is None:
            with self._spending():
                self._cost = self._estimate()
        owed = max(self._last, self._began + self.spent / SHARE)
        return time.monotonic() - owed >= self._cost * (1 - SHARE) / SHARE

    @contextmanager
    def making(self) -> Iterator[None]:
        """Within, a checkpoint is made, whose cost decides when the next one is due."""
        before = self.spent
        with self._spending():
            yield
        self._cost, self._last = self.spent - before, time.monotonic()

    @contextmanager
    def _spending(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.spent += time.monotonic() - start
