"""The scheme of the fluid, in its plain form: MUSCL with the MC limiter, HLLC fluxes, and SSP-RK2 in time.

Slopes of the primitive variables are limited by van Leer's monotonised central limiter (1977). Both directions are
updated together, and the two stages are those of Shu and Osher (1988). One source serves NumPy, PyTorch on any device,
and derivatives; `fused` is the same scheme for CPUs, several times faster.
"""

from attar.plasma.arrays import Array, along, module_of
from attar.plasma.riemann import hllc
from attar.plasma.states import X_SPEED, Y_SPEED, Grid, fast_speed, primitive, with_ghosts


def largest_step(conserved: Array, grid: Grid, cfl: float) -> float:
    """The time step at which no wave crosses more than a share of a cell: CFL · min(dx/(|u| + c), dy/(|v| + c)).

    Args:
        conserved: `[5, rows, columns]`.
        grid: The cells.
        cfl: The share.
    """
    states = primitive(conserved)
    speed, xp = fast_speed(states), module_of(conserved)
    across = (xp.abs(states[place]) + speed for place in (X_SPEED, Y_SPEED))
    return cfl * min(width / float(fastest.max()) for width, fastest in zip((grid.dx, grid.dy), across, strict=True))


def advanced(conserved: Array, dt: float, grid: Grid) -> Array:
    """The states one step later, by both stages.

    Args:
        conserved: `[5, rows, columns]`.
        dt: The time step.
        grid: The cells and the walls.
    """
    half_way = conserved + dt * change(conserved, grid)
    return 0.5 * conserved + 0.5 * (half_way + dt * change(half_way, grid))


def change(conserved: Array, grid: Grid) -> Array:
    """L(U), the rate at which fluxes through its faces change each cell."""
    states = primitive(conserved)
    along_x = _difference(fluxes(with_ghosts(states, -1, grid.x_walls), -1), -1) / grid.dx
    along_y = _difference(fluxes(with_ghosts(states, -2, grid.y_walls), -2), -2) / grid.dy
    return -(along_x + along_y)


def fluxes(states: Array, axis: int) -> Array:
    """Fluxes across all faces of an axis, of primitive states with their ghosts.

    Args:
        states: Primitive, with two ghost cells at each end of the axis.
        axis: -1 for x, -2 for y.
    """
    halves = 0.5 * limited(states, axis)
    inner = along(states, axis, 1, -1)
    left, right = along(inner + halves, axis, 0, -1), along(inner - halves, axis, 1, None)
    return hllc(left, right, X_SPEED if axis == -1 else Y_SPEED)


def limited(states: Array, axis: int) -> Array:
    """Slopes by the monotonised central limiter: of the central one and twice each one-sided one, that nearest to 0.

    It is 0 at an extremum.
    """
    xp = module_of(states)
    steps = _difference(states, axis)
    before, after = along(steps, axis, 0, -1), along(steps, axis, 1, None)
    central = 0.25 * (before + after)
    lowest = xp.minimum(xp.minimum(before, after), central)
    highest = xp.maximum(xp.maximum(before, after), central)
    return 2 * (xp.clip(lowest, 0, None) + xp.clip(highest, None, 0))


def _difference(values: Array, axis: int) -> Array:
    return along(values, axis, 1, None) - along(values, axis, 0, -1)
