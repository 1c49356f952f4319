"""Hα, Ca II K and Mg II h of a mixing layer: where each forms, how exact that is, and what a column costs.

    python bench/spectra.py --quick                  # does it run: two columns of a small run; records nothing
    python bench/spectra.py --minutes 8              # as many columns as fit, recorded in bench/results/spectra.json
    python bench/spectra.py                          # the rest: 32 columns at each of three times

A column costs about 24 CPU-seconds, so all 96 take 40 minutes. Each is kept when it is solved and is not solved again;
those of each time are taken in an order in which any beginning is spread over all of x. H, Ca and Mg are out of
equilibrium, charge and pressure are conserved, and the light is that of FAL-C on a prominence (Promweaver's default).
"""

import argparse
import json
import statistics
import time
from typing import Any

import harness
import numpy as np

import attar
from attar.core.engine import finished
from attar.core.runtime import Engine
from attar.core.store import cache_folder
from attar.plasma.column import Column, column_of, spread
from attar.plasma.nonlte import LINES, Transfer
from attar.plasma.spectra import answer_of, keep_answer, read_answer
from attar.plasma.spectra_artefact import CONVERGED, UNSOLVED

RECORD = "spectra.json"
COLUMNS, TIMES = 32, (1 / 3, 2 / 3, 1)
BORDER = 1e5
"""Temperature in K at which thread and corona meet (PCTR)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two columns of a small run; records nothing")
    parser.add_argument("--cells", type=int, default=128, help="along each side of the run")
    parser.add_argument("--end", type=float, default=70.0, help="of the run, in L_0/c_s0")
    parser.add_argument("--solver", default="auto", help="source of the scheme")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of CPU time for columns")
    args = parser.parse_args()
    cells, end = (32, 5.0) if args.quick else (args.cells, args.end)
    run = the_run(cells, end, args.solver)
    transfer = Transfer(lines=("ca-k",), incident="zero", conserve_charge=False, conserve_pressure=False)
    transfer = transfer if args.quick else Transfer()
    folder = cache_folder() / "bench-spectra" / f"{cells}-{end:g}-{run.fingerprint}"
    folder.mkdir(parents=True, exist_ok=True)
    snapshots = [round((len(run.times) - 1) * part) for part in TIMES]
    places = spread(run.grid.columns, 2 if args.quick else COLUMNS)
    light, began = transfer.light(), time.process_time()
    for place in scattered(len(places)):
        for number, snapshot in enumerate(snapshots):
            index = number * len(places) + place
            if read_answer(folder, index) is None and time.process_time() - began < 60 * args.minutes:
                answer = answer_of(transfer, column_of(run, snapshot, int(places[place])), light)
                keep_answer(folder, index, answer)
                print(
                    f"t = {float(run.times[snapshot]):g}, column {place}: {float(answer['seconds']):.1f} s", flush=True
                )
    rows = {}
    for number, snapshot in enumerate(snapshots):
        found = {}
        for place, x in enumerate(places):
            answer = read_answer(folder, number * len(places) + place)
            if answer is not None:
                found[int(x)] = row_of(answer, column_of(run, snapshot, int(x)), transfer)
        rows[f"{float(run.times[snapshot]):g}"] = found
    result = {
        "machine": harness.machine(),
        "settings": {"cells": cells, "end": end, "transfer": transfer.to_json(), "columns_wanted": len(places)},
        "summary": {moment: summary_of(list(found.values())) for moment, found in rows.items() if found},
        "columns": rows,
    }
    if args.quick:
        print(json.dumps(harness.rounded(result["summary"]), indent=1))
    else:
        harness.record(RECORD, result)


def the_run(cells: int, end: float, solver: str) -> Any:
    """The simulation, made once."""
    folder = cache_folder() / "bench-runs" / f"kelvin-helmholtz-{cells}-{end:g}"
    method = attar.KelvinHelmholtz(cells=(cells, cells), end=end, outputs=30, solver=solver)
    if not finished(folder):
        print(f"simulating {cells}x{cells} cells to t = {end:g}", flush=True)
    return attar.simulate(method, out=folder, engine=Engine(device="cpu"))


def scattered(number: int) -> list[int]:
    """The numbers below one that is a power of two, with their bits reversed."""
    bits = (number - 1).bit_length()
    return [int(f"{i:0{bits}b}"[::-1], 2) for i in range(number)]


def row_of(answer: dict[str, Any], column: Column, transfer: Transfer) -> dict[str, Any]:
    """What is recorded of a column: of each line τ, the distance of τ = 1 from the border, and the integral's error."""
    told = {"state": int(answer["state"]), "seconds": float(answer["seconds"])}
    if told["state"] == UNSOLVED:
        return told
    border = float(column.depth[int(np.argmax(column.temperature < BORDER))])
    told |= {"iterations": int(answer["iterations"]), "hydrogen_change": float(answer["hydrogen_change"])}
    for number, name in enumerate(transfer.lines):
        core = int(answer["tau"][number].argmax())
        depth = float(answer["depth"][number, core])
        told[name] = {
            "tau": float(answer["tau"][number, core]),
            "behind_border_km": None if depth < 0 else (depth - border) / 1e3,
            "balance": float(answer["balance"][number]),
            "core": float(answer["intensity"][number, core]),
        }
    return told


def summary_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the columns of a time, and how often Mg II h forms nearest to the border."""
    solved = [row for row in rows if row["state"] != UNSOLVED]
    lines = [name for name in LINES if name in solved[0]]
    nearest = []
    for row in solved:
        away = {name: row[name]["behind_border_km"] for name in lines}
        if away.get("mg-h") is not None:
            nearest.append(all(one is None or away["mg-h"] <= one for one in away.values()))
    balances = [row[name]["balance"] for row in solved for name in lines]
    return {
        "columns": len(rows),
        "converged": sum(row["state"] == CONVERGED for row in rows) / len(rows),
        "seconds_median": statistics.median(row["seconds"] for row in rows),
        "iterations_median": statistics.median(row["iterations"] for row in solved),
        "hydrogen_change_largest": max(row["hydrogen_change"] for row in solved),
        "tau_median": {name: statistics.median(row[name]["tau"] for row in solved) for name in lines},
        "behind_border_km_median": {name: _median([row[name]["behind_border_km"] for row in solved]) for name in lines},
        "mg_nearest_share": sum(nearest) / len(nearest) if nearest else None,
        "balance_from_to": [min(balances), max(balances)],
    }


def _median(values: list[float | None]) -> float | None:
    thick = [value for value in values if value is not None]
    return statistics.median(thick) if thick else None


if __name__ == "__main__":
    main()
