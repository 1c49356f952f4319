"""One line of sight through a plasma, in SI, and the lines of sight of a run's mirrored domain."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

TURBULENCE = 2e3
"""Micro-turbulence of the published synthesis, in m/s."""


@dataclass(frozen=True)
class Column:
    """What lies along one line of sight. The first point is the nearest to the observer."""

    depth: Float[np.ndarray, " point"]
    """Distance from the near face, in m, ascending. Radiative transfer takes z = -depth, which descends."""
    temperature: Float[np.ndarray, " point"]
    """In K."""
    hydrogen: Float[np.ndarray, " point"]
    """All hydrogen, in m⁻³."""
    velocity: Float[np.ndarray, " point"]
    """Along the line of sight, in m/s; positive towards the observer."""
    turbulence: float = TURBULENCE
    """Micro-turbulence, in m/s."""

    def __len__(self) -> int:
        return len(self.depth)

    def kept(self, points: Any) -> "Column":
        """The column with some of its points, by index or mask."""
        parts = (self.depth, self.temperature, self.hydrogen, self.velocity)
        return Column(*(part[points] for part in parts), self.turbulence)


def column_of(run: Any, snapshot: int, x: int, turbulence: float = TURBULENCE) -> Column:
    """A vertical line of sight through a snapshot and its mirror image.

    The domain is reflected in its upper end, so that the thread has corona on both sides. The observer looks from
    below, in the direction of y, through the simulated half first.

    Args:
        run: A `Run`.
        snapshot: Which of its snapshots.
        x: Which of its columns.
        turbulence: Micro-turbulence, in m/s.
    """
    heat, hydrogen = run.temperature(snapshot)[:, x], run.hydrogen(snapshot)[:, x]
    towards = -run.velocity(snapshot)[1][:, x]
    depth = (np.arange(2 * len(heat)) + 0.5) * run.grid.dy * run.units.length
    mirrored = [np.concatenate((part, sign * part[::-1])) for part, sign in ((heat, 1), (hydrogen, 1), (towards, -1))]
    return Column(depth, *mirrored, turbulence)
