"""A fluid on its way: its states, what it has radiated, and the loop that takes it from one time to another.

Cooling and flow take turns in Strang's order: half a step of cooling, a step of the flow, half a step of cooling. What
cooling removes is booked cell by cell, so that the energy and what was radiated add up to the energy of the start.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import Diverged
from attar.plasma.arrays import Array
from attar.plasma.cooling import Cooling
from attar.plasma.scheme import advanced, largest_step
from attar.plasma.states import ENERGY, GAMMA, Grid

FLOOR = 1e-10
"""Smallest pressure, in units of the corona's γP; gas below it is raised to it, and that is counted."""


@dataclass
class Fluid:
    """All that a simulation goes on from."""

    conserved: Float[Tensor, "5 row column"]
    """ρ, ρu, ρv, E, B_z."""
    radiated: Float[Tensor, "row column"]
    """Energy density that each cell has radiated."""
    time: float = 0.0
    """In L_0/c_s0."""
    steps: int = 0
    raised: int = 0
    """How often the pressure of a cell was raised to the floor."""

    @classmethod
    def of(cls, conserved: Float[Tensor, "5 row column"]) -> "Fluid":
        """A fluid at the start."""
        return cls(conserved, torch.zeros_like(conserved[0]))


Advance = Callable[[Fluid, float, Grid, float, Cooling | None], None]
"""Takes a fluid, in place, to a time: `advance(fluid, until, grid, cfl, cooling)`."""


def advance(fluid: Fluid, until: float, grid: Grid, cfl: float, cooling: Cooling | None, *, numpy: bool = True) -> None:
    """Take a fluid to a time by the plain scheme, in place.

    Args:
        fluid: It.
        until: The time, in L_0/c_s0.
        grid: The cells.
        cfl: Share of a cell that a wave may cross in a step.
        cooling: The losses, or None.
        numpy: Compute with NumPy, on the CPU. If not, with PyTorch on the device of the states.

    Raises:
        Diverged: The time step has vanished, or states are not finite.
    """
    states: Array = fluid.conserved.numpy() if numpy else fluid.conserved
    radiated: Array = fluid.radiated.numpy() if numpy else fluid.radiated
    while fluid.time < until:
        dt = largest_step(states, grid, cfl)
        check_step(dt, fluid)
        last = fluid.time + dt >= until
        dt = until - fluid.time if last else dt
        found = states if cooling is None else _cool(states, radiated, dt / 2, cooling)
        found = advanced(found, dt, grid)
        fluid.raised += _raise(found)
        found = found if cooling is None else _cool(found, radiated, dt / 2, cooling)
        states[...] = found
        fluid.time = until if last else fluid.time + dt
        fluid.steps += 1


def radiated_after(conserved: Array, steps: int, dt: float, grid: Grid, cooling: Cooling) -> Array:
    """Energy radiated in some equal time steps, per unit of depth; with PyTorch differentiable by states and by τ.

    Args:
        conserved: `[5, rows, columns]`; they are left as they are.
        steps: Number of steps.
        dt: Their length, which must be stable.
        grid: The cells.
        cooling: The losses; its τ may be a tensor.
    """
    radiated: Array = 0.0
    for _ in range(steps):
        half = cooling.cooled(conserved, dt / 2)
        moved = advanced(half, dt, grid)
        cooled = cooling.cooled(moved, dt / 2)
        radiated = radiated + (conserved[ENERGY] - half[ENERGY]).sum() + (moved[ENERGY] - cooled[ENERGY]).sum()
        conserved = cooled
    return radiated * grid.cell


def check_step(dt: float, fluid: Fluid) -> None:
    """Refuse a time step that leads nowhere.

    Raises:
        Diverged: It is not finite, or does not change the time.
    """
    if not math.isfinite(dt) or dt <= 0 or fluid.time + dt == fluid.time:
        told = f"the time step is {dt:g} at t = {fluid.time:.4g}, after {fluid.steps:,} steps"
        raise Diverged.of(f"{told}; a smaller --cfl may help")


def _cool(states: Array, radiated: Array, dt: float, cooling: Cooling) -> Array:
    """The states after they have cooled; what they lose is booked."""
    found = cooling.cooled(states, dt)
    radiated += states[ENERGY] - found[ENERGY]
    return found


def _raise(states: Array) -> int:
    """Raise, in place, the energy of cells whose pressure has fallen below the floor; return how many there are."""
    density, u, v, energy, field = states
    least = FLOOR / (GAMMA - 1) + 0.5 * (u * u + v * v) / density + 0.5 * field * field
    low = energy < least
    count = int(low.sum())
    if count:
        energy[low] = least[low]
    return count
