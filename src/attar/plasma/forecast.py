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
MOST_STEPS = 1e8
LONG_ENOUGH = 0.1
"""Seconds of trial steps from which their speed is known."""


def check_size(grid: Grid) -> None:
    """See that a grid fits into memory.

    Raises:
        InputError: It does not.
    """
    needed, there = grid.rows * grid.columns * NUMBERS * 8, machine_bytes()
    if there is not None and needed > there:
        raise InputError(
            f"{grid.columns}×{grid.rows} cells need about {in_bytes(needed)} of memory, and this machine has "
            f"{in_bytes(there)}. Ask for fewer --cells."
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
    dt, steps, taken = largest_step(fluid.conserved, grid, cfl), 0, 0.0
    while taken < LONG_ENOUGH and steps < 1000:
        copy, more = Fluid.of(fluid.conserved.clone()), max(1, 4 * steps)
        for count in (1, more) if not steps else (more,):  # the first one may have to be compiled
            begun = time.perf_counter()
            advance_by(solver, copy, copy.time + (count - 0.5) * dt, grid, cfl, cooling, runtime)
            taken = time.perf_counter() - begun
        steps = more
    return taken / steps


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
