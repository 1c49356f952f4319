"""The scheme of the fluid for CPUs: the numbers of `fluid` to rounding, several times sooner, by compiled sweeps.

From 160,000 cells on, rows are shared among as many threads as PyTorch uses. Results have the same bytes for any number
of threads. Prefer `fluid` for GPUs and for derivatives.
"""

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from attar.plasma.cooling import Cooling
from attar.plasma.fluid import FLOOR, Fluid, check_step
from attar.plasma.states import Grid
from attar.plasma.sweeps import BITS, HEAT, Tables, finished, swept

SHARED_FROM = 160_000
"""Cells from which on threads gain more than they lose by waiting for one another."""
LEAST_ROWS = 16
"""Fewest rows of a thread."""


def advance(fluid: Fluid, until: float, grid: Grid, cfl: float, cooling: Cooling | None) -> None:
    """Take a fluid to a time, in place.

    Args:
        fluid: It, on the CPU, float64.
        until: The time, in L_0/c_s0.
        grid: The cells.
        cfl: Share of a cell that a wave may cross in a step.
        cooling: The losses, or None.

    Raises:
        Diverged: The time step has vanished, or states are not finite.
    """
    states, radiated = (np.ascontiguousarray(part.numpy()) for part in (fluid.conserved, fluid.radiated))
    half_way, tables = np.empty_like(states), tables_of(cooling)
    walls = (grid.x_walls == "periodic", grid.y_walls == "periodic")
    with Shared(grid) as rows:
        found = rows.each(finished, states, radiated, 0.0, -math.inf, tables)
        while fluid.time < until:
            x_speed, y_speed, _ = np.max(found, axis=0).tolist()
            dt = cfl * min(grid.dx / x_speed, grid.dy / y_speed)
            check_step(dt, fluid)
            last = fluid.time + dt >= until
            dt = until - fluid.time if last else dt
            passed = 0.0 if cooling is None else HEAT * dt / 2 / float(cooling.tau)
            if passed:
                rows.each(finished, states, radiated, passed, -math.inf, tables)
            ratios = (dt / grid.dx, dt / grid.dy)
            rest = (ratios, walls, radiated, passed, FLOOR, tables)
            rows.each(swept, states, half_way, False, *rest)
            found = rows.each(swept, half_way, states, True, *rest)
            fluid.raised += int(sum(part[2] for part in found))
            fluid.time = until if last else fluid.time + dt
            fluid.steps += 1
    fluid.conserved.copy_(torch.from_numpy(states))
    fluid.radiated.copy_(torch.from_numpy(radiated))


class Shared:
    """Rows of a grid, shared among threads."""

    def __init__(self, grid: Grid) -> None:
        most = torch.get_num_threads() if grid.rows * grid.columns >= SHARED_FROM else 1
        count = max(1, min(most, grid.rows // LEAST_ROWS))
        edges = [grid.rows * part // count for part in range(count + 1)]
        self.parts = list(itertools.pairwise(edges))
        self.pool = ThreadPoolExecutor(count - 1) if count > 1 else None

    def __enter__(self) -> "Shared":
        return self

    def __exit__(self, *raised: object) -> None:
        if self.pool is not None:
            self.pool.shutdown()

    def each(self, sweep: Callable[..., Any], *given: Any) -> list[Any]:
        """What a sweep finds in each part of the rows, when all are done. This thread takes the first part."""
        others = [self.pool.submit(sweep, *given, *part) for part in self.parts[1:]] if self.pool else []
        return [sweep(*given, *self.parts[0]), *(other.result() for other in others)]


def tables_of(cooling: Cooling | None) -> Tables:
    """Losses as sweeps read them.

    Returns:
        Buckets of temperatures, each with the first piece of those whose leading bits are the same; the lowest bucket;
        and by piece: the temperatures of its ends, Λ̂ at the lower end, dΛ̂/dT, and -Y at the lower end. A last piece,
        without end, has the losses of the last node.
    """
    if cooling is None:
        return np.zeros(1, np.int64), 0, *(np.zeros(1) for _ in range(5))
    nodes, losses = cooling.nodes, cooling.losses
    lowest, highest = (int(bits) >> BITS for bits in nodes[[0, -1]].view(np.int64))
    edges = (np.arange(lowest, highest + 1, dtype=np.int64) << BITS).view(np.float64)
    buckets = np.maximum(np.searchsorted(nodes, edges, side="right") - 1, 0)
    return buckets, lowest, nodes, np.append(nodes[1:], np.inf), losses, np.append(cooling.slopes, 0.0), cooling.elapsed
