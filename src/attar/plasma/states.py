"""The five variables of a plasma whose field is perpendicular to the plane, and the grid that they live on.

With only B_z the field has no tension. What remains are the Euler equations with the total pressure P + B_z²/2, the
fast speed √((γP + B_z²)/ρ), and a fifth equation that carries B_z with the flow. States are `[5, rows, columns]`: ρ,
ρu, ρv, E, B_z (conserved), or ρ, u, v, P, B_z (primitive). Rows lie along y and columns along x.
"""

from dataclasses import dataclass
from typing import Literal

from attar.plasma.arrays import Array, along, flipped, module_of

GAMMA = 5 / 3
"""γ, ratio of specific heats."""
GHOSTS = 2
"""Cells beyond each wall."""
DENSITY, X_SPEED, Y_SPEED, PRESSURE, FIELD = range(5)
"""Places of the primitive variables."""
ENERGY = PRESSURE
"""Place of the energy among the conserved variables."""
Wall = Literal["mirror", "periodic"]


@dataclass(frozen=True)
class Grid:
    """Cells of a rectangle, and what its walls do."""

    rows: int
    columns: int
    dx: float
    dy: float
    x_walls: Wall = "periodic"
    y_walls: Wall = "mirror"

    @property
    def cell(self) -> float:
        """Area of a cell."""
        return self.dx * self.dy

    @property
    def transposed(self) -> "Grid":
        """The grid with x and y swapped."""
        return Grid(self.columns, self.rows, self.dy, self.dx, self.y_walls, self.x_walls)


def primitive(conserved: Array) -> Array:
    """ρ, u, v, P, B_z from ρ, ρu, ρv, E, B_z."""
    density, x_momentum, y_momentum, energy, field = conserved
    u, v = x_momentum / density, y_momentum / density
    inner = energy - 0.5 * density * (u * u + v * v) - 0.5 * field * field
    return module_of(conserved).stack((density, u, v, (GAMMA - 1) * inner, field))


def conserved(primitive: Array) -> Array:
    """ρ, ρu, ρv, E, B_z from ρ, u, v, P, B_z."""
    density, u, v, pressure, field = primitive
    energy = pressure / (GAMMA - 1) + 0.5 * density * (u * u + v * v) + 0.5 * field * field
    return module_of(primitive).stack((density, density * u, density * v, energy, field))


def temperature(primitive: Array) -> Array:
    """T = γP/ρ, in units of T_0."""
    return GAMMA * primitive[PRESSURE] / primitive[DENSITY]


def fast_speed(primitive: Array) -> Array:
    """C = √((γP + B_z²)/ρ)."""
    density, _, _, pressure, field = primitive
    return module_of(primitive).sqrt((GAMMA * pressure + field * field) / density)


def swapped(states: Array) -> Array:
    """States with x and y swapped: the plane transposed, and u and v exchanged."""
    density, x, y, fourth, field = states
    return module_of(states).stack((density.T, y.T, x.T, fourth.T, field.T))


def with_ghosts(primitive: Array, axis: int, walls: Wall) -> Array:
    """Primitive states with two more cells at each end of an axis.

    Args:
        primitive: `[5, rows, columns]`.
        axis: -1 for x, -2 for y.
        walls: `periodic` repeats the other end; `mirror` reflects, and turns the velocity across the wall around.
    """
    xp = module_of(primitive)
    if walls == "periodic":
        first, last = along(primitive, axis, 0, GHOSTS), along(primitive, axis, -GHOSTS, None)
        return xp.concatenate((last, primitive, first), axis)
    across = X_SPEED if axis == -1 else Y_SPEED
    ends = [_turned(flipped(along(primitive, axis, *part), axis), across) for part in ((0, GHOSTS), (-GHOSTS, None))]
    return xp.concatenate((ends[0], primitive, ends[1]), axis)


def _turned(states: Array, speed: int) -> Array:
    """States with one velocity of the other sign."""
    return module_of(states).stack([-part if place == speed else part for place, part in enumerate(states)])
