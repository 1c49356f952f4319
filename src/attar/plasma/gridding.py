"""Columns on a fixed number of points: the cool gas alone, with points where the temperature changes.

Hot gas is transparent in the lines of cool gas, and the transition between them is steep. So gas above a threshold is
cut out, and what is left closes up. The points are then placed so that each step has an equal share of the depth and
of the change of log T. Between points log T, log n_H and v are linear. Everything here is deterministic.
"""

import numpy as np
from jaxtyping import Float

from attar.core.errors import InputError
from attar.plasma.column import Column

POINTS = 64
"""Points of a column as emulators take it."""
THRESHOLD = 2.5e5
"""Temperature above which gas counts as corona, in K."""
BY_DEPTH = 0.4
"""Share of the points that is spread evenly over the depth; the others follow the change of log T."""
SEAM = 1e-3
"""What is left of a stretch of corona between two threads, as a share of the depth of the cool gas."""

Knots = Float[np.ndarray, "4 knot"]
"""Depth, log T, log n_H and v along a line of sight."""


def regridded(column: Column, points: int = POINTS, threshold: float = THRESHOLD) -> Column:
    """The cool gas of a column on so many points.

    Args:
        column: A line of sight of three points or more.
        points: How many points it gets.
        threshold: Temperature above which gas is left out, in K.

    Raises:
        InputError: It has fewer points, its depth does not rise, a value is out of its range, or all of it is hotter.
    """
    column.checked()
    knots = np.stack((column.depth, np.log10(column.temperature), np.log10(column.hydrogen), column.velocity))
    cool = cooler(knots, float(np.log10(threshold)))
    if cool.shape[1] < 2:
        coolest = float(column.temperature.min())
        raise InputError(f"a column has no gas cooler than {threshold:g} K: its coolest point has {coolest:.4g} K.")
    depth, heat, hydrogen, velocity = placed(cool, points)
    return Column(depth, 10**heat, 10**hydrogen, velocity, column.turbulence)


def cooler(knots: Knots, threshold: float) -> Float[np.ndarray, "4 _cool"]:
    """The parts below a threshold of log T, closed up; where log T crosses it there is a knot.

    Args:
        knots: Depth, log T, log n_H and v.
        threshold: Largest log T.
    """
    heat = knots[1]
    crossed = np.flatnonzero((heat[:-1] <= threshold) != (heat[1:] <= threshold))
    share = (threshold - heat[crossed]) / (heat[crossed + 1] - heat[crossed])
    between = knots[:, crossed] + share * (knots[:, crossed + 1] - knots[:, crossed])
    between[1] = threshold
    refined = np.insert(knots, crossed + 1, between, axis=1)
    cool = refined[1] <= threshold
    kept = np.flatnonzero(cool)
    together = np.diff(kept) == 1
    steps = np.diff(refined[0][kept])
    whole = float(steps[together].sum())
    steps[~together] = SEAM * whole
    found = refined[:, kept]
    found[0] = np.concatenate(([0.0], np.cumsum(steps)))[: len(kept)]
    return found


def placed(knots: Knots, points: int) -> Float[np.ndarray, "4 _points"]:
    """The same line on so many points, each step with an equal share of depth and of change of log T."""
    depth, heat = knots[:2]
    change = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(heat)))))
    share = (depth - depth[0]) / (depth[-1] - depth[0])
    if change[-1] > 0:
        share = BY_DEPTH * share + (1 - BY_DEPTH) * change / change[-1]
    wanted = np.linspace(0.0, 1.0, points)
    return np.stack([np.interp(wanted, share, part) for part in knots])
