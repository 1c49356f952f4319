"""What a simulation will take: time steps, seconds, memory and disk, told and checked before it starts."""

import math
import time

from attar.core.errors import InputError
from attar.core.memory import machine_bytes
from attar.core.runtime import Runtime
from attar.plasma.cooling import Cooling
from attar.plasma.fluid import Fluid
from attar.plasma.scheme import largest_step
from attar.plasma.solvers import Solver, advance_by, chosen_solver
from attar.plasma.states import Grid

NUMBERS = 90
"""Numbers of eight bytes that the plain scheme has in memory for each cell at most."""
WIDTHS = 2
"""Half-widths of the layer between it and each end of the domain at least."""
MOST_STEPS = 1e8
LONG_ENOUGH = 0.1
"""Seconds of trial steps from which their speed is known."""


def check_domain(grid: Grid, x: tuple[float, float], y: tuple[float, float], layer: float) -> None:
    """See that thread, layer and corona are in a domain.

    Args:
        grid: Its cells.
        x: Its ends along x.
        y: Its ends along y; the layer lies at 0.
        layer: Half-width of the layer.

    Raises:
        InputError: They are not.
    """
    if not (x[0] < x[1] and y[0] < 0 < y[1]):
        raise InputError(
            f"the domain is x from {x[0]:g} to {x[1]:g} and y from {y[0]:g} to {y[1]:g}. "
            "x must rise, and y = 0, where the layer lies, must be inside."
        )
    least, near = max(WIDTHS * layer, 2 * grid.dy), min(-y[0], y[1])
    if near < least:
        raise InputError(
            f"the domain ends {near:g} from the layer, which needs {least:g} on both sides: {WIDTHS} half-widths "
            "of --layer and two rows of cells. Set --y-from, --y-to, --layer or --cells."
        )


def check_size(grid: Grid) -> None:
    """See that a grid fits into memory.

    Raises:
        InputError: It does not.
    """
    check_memory(f"{grid.columns}×{grid.rows} cells", grid.rows * grid.columns * NUMBERS * 8, "fewer --cells")


def check_memory(what: str, needed: float, instead: str) -> None:
    """See that something fits into the memory of this machine.

    Args:
        what: It, in words.
        needed: Bytes.
        instead: What to ask for.

    Raises:
        InputError: It does not.
    """
    there = machine_bytes()
    if there is not None and needed > there:
        raise InputError(
            f"{what} need about {in_bytes(needed)} of memory, and this machine has {in_bytes(there)}. Ask for "
            f"{instead}."
        )


def check_steps(steps: float, outputs: int) -> None:
    """See that a run comes to an end, and has a time step for each snapshot.

    Args:
        steps: Time steps in all.
        outputs: Snapshots.

    Raises:
        InputError: It does not.
    """
    if not steps <= MOST_STEPS:
        raise InputError(
            f"the run would take about {steps:.2g} time steps, more than {MOST_STEPS:.0e}. "
            "Ask for fewer --cells, an earlier --end, or a larger --plasma-beta."
        )
    if outputs > steps:
        raise InputError(
            f"--outputs {outputs} are more snapshots than the run has time steps (about {max(1, int(steps))}). "
            "Ask for fewer, or for a later --end."
        )


def seconds_of_step(
    fluid: Fluid, grid: Grid, cfl: float, cooling: Cooling | None, solver: Solver, runtime: Runtime
) -> float:
    """Seconds of a time step here, by a few of them on a copy. What the clock says goes into no result."""
    dt = largest_step(fluid.conserved, grid, cfl)

    def taken(steps: int) -> float:
        copy, begun = Fluid.of(fluid.conserved.clone()), time.perf_counter()
        advance_by(solver, copy, (steps - 0.5) * dt, grid, cfl, cooling, runtime)
        return time.perf_counter() - begun

    taken(1)  # which may have to be compiled
    steps, seconds = 1, taken(1)
    while seconds < LONG_ENOUGH and steps < 1000:
        steps *= 4
        seconds = taken(steps)
    return seconds / steps


def told(grid: Grid, steps: float, seconds: float, outputs: int, solver: Solver, runtime: Runtime) -> str:
    """What a run will take, in words."""
    each = 4 * 5 * grid.rows * grid.columns
    place = "in memory" if runtime.folder is None else "on disk"
    return (
        f"{grid.rows * grid.columns:,} cells · about {float(f'{steps:.2g}'):,.0f} time steps · "
        f"about {in_time(seconds * steps)} by {chosen_solver(solver, runtime)} · "
        f"{outputs + 1} snapshots, {in_bytes(each * (outputs + 1))} {place}"
    )


def in_time(seconds: float) -> str:
    """A time in words."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{math.ceil(seconds)} s"


def in_bytes(size: float) -> str:
    """A size in words."""
    for unit, large in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= large:
            return f"{size / large:.3g} {unit}"
    return f"{max(1, round(size / 1e3))} kB"
