"""A mixing layer at several resolutions: losses against heating, warm light, mixed gas, and growth of a mode.

    python bench/mixing_layer.py --estimate              # how long each cell would take; nothing is recorded
    python bench/mixing_layer.py --quick                 # does it run
    python bench/mixing_layer.py --cells 64 128 256 400  # the numbers, recorded in bench/results/mixing_layer.json
    python bench/mixing_layer.py --cells 128 --only growth --minutes 10

Runs are those of the paper's 2022 set-up with fewer cells, to t = 40, with losses (cut, τ = 100) and without; the grid
of the authors' analysis is 400². A growing mode (k = π, tanh layer of .02, walls at ±1) is compared with the eigenvalue
of its profile. A cell is recorded when it ends, and what is recorded is not computed again. A simulation that is
stopped goes on from its last checkpoint in the scratch folder. No digit here depends on the machine's speed, but the
instability amplifies the last digits of another CPU. One thread.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import harness
import numba
import torch

import attar
from attar.core.runtime import Engine
from attar.core.store import read_json
from attar.plasma.artefact import Run
from attar.plasma.fluid import Fluid
from attar.plasma.fused import advance
from attar.plasma.growth import layer_growth, simulated_growth
from attar.plasma.kelvin_helmholtz import KelvinHelmholtz
from attar.plasma.mixing import mixing_averages, of_both

NAME = "mixing_layer.json"
END = 40.0
RATIOS = (10.0, 1.0)
TIMES = (10.0, 20.0, 30.0, 40.0)
SETTING = {
    "run": "density ratio 100, ΔV 0.2, β 0.05, layer 0.003, noise 0.005, CFL 0.4, to t = 40, seed 0",
    "losses": "sheet, cut, τ 100",
    "growth": "k π, tanh layer 0.02, walls ±1, ΔV 0.2, fitted over 0.5 ≤ σt ≤ 2.5",
}
"""What the cells have in common. Cells of another setting are computed again."""
WAVE = 5.2
"""Fast speed of the corona and its shear, which sets the time step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--estimate", action="store_true", help="say how long each cell would take, and stop")
    parser.add_argument("--cells", type=int, nargs="+", default=[64, 128, 256, 400], help="cells along each side")
    parser.add_argument("--only", choices=["growth", "mixing"], help="one part alone")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="leave out cells that would take longer")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/attar-mixing"), help="where runs can be resumed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    already, rate = recorded(), speed()
    for cells in [32] if args.quick else args.cells:
        for part, work, made in (("growth", growth_steps(cells), growth), ("mixing", mixing_steps(cells), mixing)):
            cell = f"{part}, {cells}²"
            minutes = work / rate / 60
            if args.only not in (None, part) or (cell in already and not args.quick):
                continue
            print(f"{cell}: {work / 1e9:.2f} G cell-steps, about {minutes:.1f} minutes", flush=True)
            if args.estimate or minutes > args.minutes:
                continue
            began = time.process_time()
            found = made(cells, args.scratch, 30.0 if args.quick else END)
            found["seconds of CPU in the last go"] = time.process_time() - began
            print(f"{cell}: {harness.rounded(found)}", flush=True)
            if not args.quick:
                record(cell, found)


def record(cell: str, found: dict[str, Any]) -> None:
    result = {"machine": harness.machine(), "setting": SETTING, "cells": {cell: found}}
    harness.record(NAME, result, beside=known().get("setting") == SETTING)


def known() -> dict[str, Any]:
    path = harness.RESULTS / NAME
    return read_json(path) if path.exists() else {}


def recorded() -> set[str]:
    facts = known()
    return set(facts["cells"]) if facts.get("setting") == SETTING else set()


def speed() -> float:
    """Cell-steps per second of this machine now, of the fused source without losses."""
    method = KelvinHelmholtz(cells=(128, 128))
    fluid = Fluid.of(method.initial(torch.Generator()))
    advance(fluid, 0.01, method.grid, method.cfl, None)
    steps, began = fluid.steps, time.perf_counter()
    advance(fluid, 0.3, method.grid, method.cfl, None)
    return (fluid.steps - steps) * 128**2 / (time.perf_counter() - began)


def steps_until(end: float, cells: int) -> float:
    return end * WAVE / (0.4 * 2 / cells)


def growth_steps(cells: int) -> float:
    return sum(steps_until(2.5 / layer_growth(ratio), cells) * cells**2 for ratio in RATIOS)


def mixing_steps(cells: int) -> float:
    """Of both runs; losses take about half as much again."""
    return 2.5 * steps_until(END, cells) * cells**2


# -------------------------------------------------------------------------------------------------------------- cells


def growth(cells: int, scratch: Path, end: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for ratio in RATIOS:
        layer = KelvinHelmholtz(
            cells=(cells, cells), y_from=-1.0, y_to=1.0, density_ratio=ratio, layer=0.02, noise_speed=0.0
        )
        exact = layer_growth(ratio)
        made = simulated_growth(layer, between=(0.5 / exact, 2.5 / exact), by=advance)
        found[f"ratio {ratio:g}"] = {"eigenvalue": exact, "measured": made.rate, "share": made.rate / exact}
    return found


def mixing(cells: int, scratch: Path, end: float) -> dict[str, Any]:
    cooled, adiabatic = (simulated(cells, losses, scratch, end) for losses in ("cut", "off"))
    averages = {f"t = {at:g}": mixing_averages(adiabatic, at) for at in TIMES if at <= end}
    return {
        **of_both(cooled, adiabatic),
        "mixed gas": {at: {"density": rho, "temperature in K": 1e6 * heat} for at, (rho, heat) in averages.items()},
        "steps": float(cooled.measured("steps")[-1]),
        "pressures raised": float(cooled.measured("raised")[-1]),
    }


def simulated(cells: int, losses: str, scratch: Path, end: float) -> Run:
    method = KelvinHelmholtz(cells=(cells, cells), end=end, outputs=int(end), radiation=losses, solver="numba")
    folder = scratch / f"{cells}-{losses}-{end:g}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    return attar.simulate(method, out=folder, engine=Engine(device="cpu", quiet=True))


if __name__ == "__main__":
    main()
