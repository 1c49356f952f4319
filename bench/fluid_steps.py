"""Cell-steps per second of the fluid: the compiled sweeps beside NumPy, PyTorch, and torch.compile of the plain source.

    python bench/fluid_steps.py --quick    # does it run
    python bench/fluid_steps.py            # recorded in bench/results/fluid_steps.json

Each side runs on one thread in a process of its own, in which every size takes turns; a number is the best of its
rounds, by the process's CPU time. A cell-step is a whole time step of one cell: both stages, the time step itself, the
floor and, where there is cooling, both of its halves. Two threads are timed by the clock.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import torch
from torch import Tensor

from attar.core.runtime import Engine, Runtime
from attar.plasma.cooling import Cooling
from attar.plasma.fluid import FLOOR, Fluid, advance
from attar.plasma.kelvin_helmholtz import KelvinHelmholtz
from attar.plasma.losses import packaged
from attar.plasma.scheme import advanced, largest_step
from attar.plasma.states import ENERGY, GAMMA, Grid, fast_speed, primitive

RIVALS = ("numpy", "torch", "compile")
"""Sides beside Numba, which should be at least 5 times faster than NumPy, and .9 (128²) and 1.2 times (400²) as fast as
the compiled plain source."""
SIZES = (128, 400)
SCALING = (64, 128, 256, 400, 800)
SECONDS = 0.3
"""About as long as one measurement takes."""
END = 70.0
"""Time at which the published run of 800² ends."""
CFL = 0.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; records nothing")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each size in each process")
    parser.add_argument("--turns", type=int, default=1, help="processes of each side, which take turns")
    args = parser.parse_args()
    sizes, scaling = ((16, 24), (16, 24)) if args.quick else (SIZES, SCALING)
    turns, seconds = (1, 0.02) if args.quick else (args.turns, SECONDS)
    found: dict[str, Any] = {"unit": "million cell-steps per second of one thread", "best of": args.rounds * turns}
    with tempfile.TemporaryDirectory() as folder:
        for losses in ("off", "cut"):
            name = "without cooling" if losses == "off" else "with cooling"
            found[name] = compared(Path(folder), losses, sizes, args.rounds, turns, seconds)
            print(name, harness.rounded(found[name]), flush=True)
        given = {"rounds": args.rounds, "seconds": seconds, "losses": "cut"}
        alone = harness.in_own_process(
            __file__, "work", Path(folder), side="numba", sizes=_named(scaling), threads=1, **given
        )
        both = harness.in_own_process(
            __file__, "work", Path(folder), side="numba", sizes=_named(scaling[-2:]), threads=2, **given
        )
        found["cells"] = {size: row["speed"] for size, row in alone["sizes"].items()}
        found["two threads"] = {
            size: {"by the clock": row["clock"], "times one thread": row["clock"] / alone["sizes"][size]["clock"]}
            for size, row in both["sizes"].items()
        }
        found["compiling"] = harness.in_own_process(__file__, "first_call", Path(folder))
    largest = str(scaling[-1])
    cell_steps = alone["sizes"][largest]["steps_to_end"] * scaling[-1] ** 2 / 1e6
    found[f"hours of {largest}² to t = {END:g}"] = {
        "steps": alone["sizes"][largest]["steps_to_end"],
        "one thread": cell_steps / alone["sizes"][largest]["speed"] / 3600,
        "two threads": cell_steps / both["sizes"][largest]["clock"] / 3600,
    }
    print(harness.rounded(found), flush=True)
    if not args.quick:
        harness.record("fluid_steps.json", {"machine": harness.machine(), **found}, by_machine=True)


def compared(
    folder: Path, losses: str, sizes: tuple[int, ...], rounds: int, turns: int, seconds: float
) -> dict[str, Any]:
    """Speeds of all sides at each size, and how many times faster Numba is."""
    best: dict[str, dict[str, float]] = {str(size): {} for size in sizes}
    for _ in range(turns):
        for side in ("numba", *RIVALS):
            report = harness.in_own_process(
                __file__,
                "work",
                folder,
                side=side,
                sizes=_named(sizes),
                threads=1,
                rounds=rounds,
                seconds=seconds,
                losses=losses,
            )
            for size, row in report["sizes"].items():
                best[size][side] = max(best[size].get(side, 0.0), row["speed"])
    return {
        size: {"speed": row, "numba over": {side: row["numba"] / row[side] for side in RIVALS}}
        for size, row in best.items()
    }


def work(folder: str, side: str, sizes: str, threads: int, rounds: int, seconds: float, losses: str) -> dict[str, Any]:
    """Speeds of one side by size, in million cell-steps: per CPU-second, and per second of the clock."""
    torch.set_num_threads(threads)
    Runtime(Engine(device="cpu"))  # keeps freed memory, which makes NumPy and eager PyTorch faster, too
    sides = {"numba": _numba, "numpy": advance, "torch": _eager, "compile": _compiled()}
    ready = {}
    for size in map(int, sizes.split("-")):
        fluid, grid, cooling = started(size, losses)
        run = sides[side]
        run(fluid, fluid.time + 1e-9, grid, CFL, cooling)
        start = time.process_time()
        _steps(run, fluid, grid, cooling, 3)
        count = max(3, round(3 * seconds / (time.process_time() - start)))
        ready[size] = (fluid, grid, cooling, count)
    rows: dict[int, dict[str, float]] = {size: {"speed": 0.0, "clock": 0.0} for size in ready}
    for _ in range(rounds):
        for size, (fluid, grid, cooling, count) in ready.items():
            cpu, clock = time.process_time(), time.perf_counter()
            steps = _steps(sides[side], fluid, grid, cooling, count)
            cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
            cell_steps = steps * size * size / 1e6
            rows[size]["speed"] = max(rows[size]["speed"], cell_steps / cpu)
            rows[size]["clock"] = max(rows[size]["clock"], cell_steps / clock)
            rows[size]["steps_to_end"] = END / largest_step(fluid.conserved.numpy(), grid, CFL)
    return {"sizes": rows}


def first_call(folder: str) -> dict[str, float]:
    """Seconds that Numba takes before the first step: compiled from nothing, and found in its cache."""
    os.environ["NUMBA_CACHE_DIR"] = str(Path(folder) / "numba")
    start = time.perf_counter()
    started(16, "cut")
    first = time.perf_counter() - start
    if (Path(folder) / "numba-filled").exists():
        return {"again": first}
    (Path(folder) / "numba-filled").touch()
    return {"first": first, **harness.in_own_process(__file__, "first_call", Path(folder))}


def _named(sizes: tuple[int, ...]) -> str:
    """Sizes as a word that may stand in the name of a folder."""
    return "-".join(map(str, sizes))


def started(size: int, losses: str) -> tuple[Fluid, Grid, Cooling | None]:
    """The published run, a little after its start, when gas between both temperatures is there and cools."""
    method = KelvinHelmholtz(cells=(size, size), radiation=losses, noise_speed=0.05)
    fluid = Fluid.of(method.initial(torch.Generator().manual_seed(0)))
    cooling = None if losses == "off" else Cooling(packaged().cut(), 100.0)
    _numba(fluid, 20 * largest_step(fluid.conserved.numpy(), method.grid, CFL), method.grid, CFL, cooling)
    return fluid, method.grid, cooling


def _steps(run: Callable[..., None], fluid: Fluid, grid: Grid, cooling: Cooling | None, count: int) -> int:
    """Go about as many steps further; return how many they were."""
    before = fluid.steps
    run(fluid, fluid.time + (count - 0.5) * largest_step(fluid.conserved.numpy(), grid, CFL), grid, CFL, cooling)
    return fluid.steps - before


def _numba(fluid: Fluid, until: float, grid: Grid, cfl: float, cooling: Cooling | None) -> None:
    from attar.plasma.fused import advance as fused

    fused(fluid, until, grid, cfl, cooling)


def _eager(fluid: Fluid, until: float, grid: Grid, cfl: float, cooling: Cooling | None) -> None:
    advance(fluid, until, grid, cfl, cooling, numpy=False)


def _compiled() -> Callable[..., None]:
    """The plain source as torch.compile makes it: a whole step at once, with the fastest waves after it."""

    def fastest(states: Tensor) -> Tensor:
        found = primitive(states)
        speed = fast_speed(found)
        return torch.stack([(found[place].abs() + speed).max() for place in (1, 2)])

    def cooled(states: Tensor, radiated: Tensor, dt: Tensor, cooling: Cooling | None) -> tuple[Tensor, Tensor]:
        if cooling is None:
            return states, radiated
        found = cooling.cooled(states, dt)
        return found, radiated + (states[ENERGY] - found[ENERGY])

    def step(states: Tensor, radiated: Tensor, dt: Tensor, grid: Grid, cooling: Cooling | None) -> tuple[Tensor, ...]:
        states, radiated = cooled(states, radiated, dt / 2, cooling)
        density, x, y, energy, field = advanced(states, dt, grid)
        least = FLOOR / (GAMMA - 1) + 0.5 * (x * x + y * y) / density + 0.5 * field * field
        states = torch.stack((density, x, y, torch.maximum(energy, least), field))
        states, radiated = cooled(states, radiated, dt / 2, cooling)
        return states, radiated, fastest(states), (energy < least).sum()

    fast = torch.compile(step, dynamic=False)

    def run(fluid: Fluid, until: float, grid: Grid, cfl: float, cooling: Cooling | None) -> None:
        states, radiated, speeds = fluid.conserved, fluid.radiated, fastest(fluid.conserved).tolist()
        while fluid.time < until:
            dt = min(cfl * min(grid.dx / speeds[0], grid.dy / speeds[1]), until - fluid.time)
            states, radiated, found, raised = fast(
                states, radiated, torch.tensor(dt, dtype=torch.float64), grid, cooling
            )
            speeds = found.tolist()
            fluid.raised += int(raised)
            fluid.time, fluid.steps = fluid.time + dt, fluid.steps + 1
        fluid.conserved.copy_(states)
        fluid.radiated.copy_(radiated)

    return run


if __name__ == "__main__":
    if not harness.run_worker({"work": work, "first_call": first_call}):
        sys.exit(main())
