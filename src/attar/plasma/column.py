"""One line of sight through a plasma, in SI, and the lines of sight of a run's mirrored domain."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from attar.core.errors import InputError

TURBULENCE = 2e3
"""Micro-turbulence of the published synthesis, in m/s."""
COLDEST = 2000.0
"""Temperature in K below which the codes of radiative transfer have no data."""


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
    electrons: Float[np.ndarray, " point"] | None = None
    """In m⁻³. Default: one for each hydrogen atom."""

    def __len__(self) -> int:
        return len(self.depth)

    def kept(self, points: Any) -> "Column":
        """The column with some of its points, by index or mask."""
        parts = ("depth", "temperature", "hydrogen", "velocity", "electrons")
        there = {name: getattr(self, name) for name in parts}
        return replace(self, **{name: part[points] for name, part in there.items() if part is not None})

    def checked(self) -> "Column":
        """The column itself.

        Raises:
            InputError: It has too few points, its depth does not rise, or a value is out of its range.
        """
        if len(self) < 3:
            raise InputError(f"a column has {len(self)} points; it must have at least 3.")
        if not (np.diff(self.depth) > 0).all():
            raise InputError("the depth of a column must rise from point to point, away from the observer.")
        positive = {"temperature": self.temperature, "hydrogen": self.hydrogen, "electrons": self.electrons}
        for name, values in positive.items():
            if values is not None and not (np.isfinite(values) & (values > 0)).all():
                raise InputError(f"{name} of a column must be positive everywhere.")
        if not (np.isfinite(self.velocity) & (np.abs(self.velocity) < 3e7)).all():
            raise InputError("velocity of a column must be finite and below a tenth of light's.")
        coldest = float(self.temperature.min())
        if coldest < COLDEST:
            raise InputError(f"a column has {coldest:.0f} K at its coldest point; it must have at least {COLDEST:g} K.")
        return self


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
    heat, hydrogen = (np.concatenate((part, part[::-1])) for part in (heat, hydrogen))
    return Column(depth, heat, hydrogen, np.concatenate((towards, -towards[::-1])), turbulence)


def spread(columns: int, number: int) -> Int[np.ndarray, " chosen"]:
    """The places of some columns, evenly over all of them."""
    return np.floor((np.arange(number) + 0.5) * columns / number).astype(int)


def cool_points(temperature: Float[np.ndarray, " point"], threshold: float) -> Bool[np.ndarray, " point"]:
    """Points that a line may form in: those below a temperature, with one hot neighbour on each side, and both ends.

    Args:
        temperature: In K.
        threshold: In K.
    """
    cool = temperature <= threshold
    near = cool.copy()
    near[1:] |= cool[:-1]
    near[:-1] |= cool[1:]
    near[[0, -1]] = True
    return near
