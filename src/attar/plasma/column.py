"""One line of sight through a plasma, in SI, and the lines of sight of a run's mirrored domain."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from attar.core.errors import InputError

TURBULENCE = 2e3
"""Micro-turbulence of the published synthesis, in m/s."""
PARTS = ("depth", "temperature", "hydrogen", "velocity", "electrons")
"""What there is of each point."""
POSITIVE = {"temperature": "K", "hydrogen": "m⁻³", "electrons": "m⁻³"}
"""Those that must be positive, and their units."""
FASTEST = 3e7
"""A tenth of the speed of light, in m/s."""
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

    def __post_init__(self) -> None:
        for name in PARTS:
            given = getattr(self, name)
            if given is None:
                continue
            try:
                object.__setattr__(self, name, np.asarray(given, dtype=np.float64))
            except (TypeError, ValueError):
                raise InputError(f"{name} of a column is of type {type(given).__name__}. Give numbers.") from None

    def __len__(self) -> int:
        return len(self.depth)

    def kept(self, points: Any) -> "Column":
        """The column with some of its points, by index or mask."""
        there = {name: getattr(self, name) for name in PARTS}
        return replace(self, **{name: part[points] for name, part in there.items() if part is not None})

    def checked(self) -> "Column":
        """The column itself.

        Raises:
            InputError: Its parts differ in length, it has too few points, its depth does not rise, or a value is out of
                its range.
        """
        there = {name: part for name in PARTS if (part := getattr(self, name)) is not None}
        shapes = {name: part.shape for name, part in there.items()}
        if self.depth.ndim != 1 or len(set(shapes.values())) > 1:
            told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise InputError(f"the parts of a column have the shapes {told}; they must be lists of one length.")
        if len(self) < 3:
            raise InputError(f"a column has {len(self)} points; it must have at least 3.")
        for point in np.flatnonzero(~np.isfinite(self.depth)):
            raise InputError(f"depth of a column is {self.depth[point]} at point {point}; it must be finite, in m.")
        for point in np.flatnonzero(~(np.diff(self.depth) > 0)) + 1:
            raise InputError(
                f"the depth of a column must rise from point to point, away from the observer: it is "
                f"{self.depth[point]:g} m at point {point}, after {self.depth[point - 1]:g} m."
            )
        for name, unit in POSITIVE.items():
            values = there.get(name, np.ones(1))
            for point in np.flatnonzero(~(np.isfinite(values) & (values > 0))):
                raise InputError(
                    f"{name} of a column must be positive everywhere: it is {values[point]:g} {unit} at point {point}."
                )
        for point in np.flatnonzero(~(np.abs(self.velocity) < FASTEST)):
            raise InputError(
                f"velocity of a column must be finite and below a tenth of light's: it is {self.velocity[point]:g} m/s "
                f"at point {point}."
            )
        if not (np.isfinite(self.turbulence) and self.turbulence >= 0):
            raise InputError(f"turbulence of a column is {self.turbulence}; it must be 0 or more, in m/s.")
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
