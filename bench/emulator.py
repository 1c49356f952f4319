"""An emulator of Ca II K beside simpler students, and which few columns are worth the teacher's time.

    python bench/emulator.py --quick                      # does it run: few threads, answered by the slab in LTE
    python bench/emulator.py                              # recorded in bench/results/emulator.json
    python bench/emulator.py --only "all" --seeds 1

The teacher is Lightweaver with calcium alone out of equilibrium and n_e given. It answers 1,000 random threads, 200 of
which are held out, and columns of a simulated mixing layer. Its answers are kept in the cache, with what they took.
A seed is a training of the student. Subsets of 100 columns are chosen from the 800 before the teacher answers, so that
it would answer 100; each student is trained for equally many steps. Seconds are CPU seconds on one thread.
"""

import argparse
import statistics
import time
from typing import Any

import harness
import torch
from rich.console import Console
from rich.table import Table

import attar
from attar.core import store
from attar.core.progress import as_text
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score
from attar.plasma.answers import AnsweredColumns
from attar.plasma.columns import Columns
from attar.plasma.emulator import LineEmulator
from attar.plasma.features import step_of
from attar.plasma.kelvin_helmholtz import KelvinHelmholtz
from attar.plasma.score import ERROR, INTEGRATED, NEAREST, RIDGE, rivals_of, scores_of

RECORD = "emulator.json"
QUIET = Engine(quiet=True, device="cpu")
COUNT, FEW, OF_RUN = 1000, 100, 100
RUN = {"cells": (64, 64), "end": 20.0, "outputs": 20, "solver": "numpy"}
SEEDS = 3
ROWS: dict[str, dict[str, Any]] = {
    "all": {},
    "random": {"subset": FEW, "chosen_by": "random"},
    "k-center": {"subset": FEW, "chosen_by": "k-center"},
    "herding": {"subset": FEW, "chosen_by": "herding"},
}
"""Each row with its settings."""
TARGETS = {"rms/peak": 0.08, "of nearest column": 0.6, "of ridge": 0.5, "teacher, CPU minutes": 5.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few columns and steps; records nothing")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW", help="rows")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    threads, run = columns_of(args.quick)
    train, test = (threads.subset(rows) for rows in (threads.train_rows, threads.test_rows))
    found: dict[str, Any] = {"teacher": of_teacher(threads, run), "targets": TARGETS, "rows": {}}
    found["rivals"] = rivals(train, test, run)
    for name in args.only:
        settings = {**ROWS[name], **({"steps": 40} if args.quick else {})}
        if args.quick and "subset" in settings:
            settings["subset"] = len(train) // 4
        seeds = [one(threads, test, run, settings, seed) for seed in range(1 if args.quick else args.seeds)]
        found["rows"][name] = {"settings": settings, "seeds": seeds}
        print(name, {measure: [seed[measure] for seed in seeds] for measure in (ERROR, f"{ERROR}, run")}, flush=True)
    if "all" in found["rows"]:
        found["reached"] = reached(found)
    Console(soft_wrap=True).print(as_text(table(found)))
    if not args.quick:
        harness.record(RECORD, {"machine": harness.machine(), **found}, beside=True)


def columns_of(quick: bool) -> tuple[Columns, Columns]:
    """Random threads and columns of a run, answered; kept in the cache."""
    home = store.cache_folder() / "bench" / ("emulator-quick" if quick else "emulator")
    teacher = "slab" if quick else "lightweaver"
    how = {"engine": QUIET}
    threads = attar.simulate(
        AnsweredColumns(count=40 if quick else COUNT, teacher=teacher), "threads", out=home / "threads", **how
    )
    settings = {**RUN, **({"cells": (16, 16), "end": 0.2, "outputs": 2} if quick else {})}
    attar.simulate(KelvinHelmholtz(**settings), out=home / "run", **how)
    of_run = AnsweredColumns(count=12 if quick else OF_RUN, teacher=teacher)
    return threads, attar.simulate(of_run, home / "run", out=home / "columns-of-run", **how)


def of_teacher(threads: Columns, run: Columns) -> dict[str, Any]:
    """What the teacher took, and how much of it converged."""
    answers, others = threads.known, run.known
    assert answers.seconds is not None
    return {
        "name": answers.teacher,
        "note": answers.note,
        "columns": len(threads),
        "converged": int(answers.converged.sum()),
        "seconds a column": answers.seconds,
        "CPU minutes": answers.seconds * len(threads) / 60,
        "columns of a run": len(run),
        "converged of a run": int(others.converged.sum()),
        "seconds a column of a run": others.seconds,
    }


def rivals(train: Columns, test: Columns, run: Columns) -> dict[str, Any]:
    """Errors of what is simpler than a network, from all training columns."""
    floor, step, others = LineEmulator().floor, step_of(train.known.wavelengths), run.converged
    here, there = (rivals_of(train, one, floor, step) for one in (test, others))
    return {
        name: {**scores_of(here[name], test), **{f"{key}, run": v for key, v in scores_of(there[name], others).items()}}
        for name in here
    }


def one(threads: Columns, test: Columns, run: Columns, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """A training: its errors on held-out threads and on the run, and with less to go by."""
    method = LineEmulator(**settings)
    began = time.process_time()
    made = attar.distill(threads, method, seed=seed, engine=QUIET)
    taken = time.process_time() - began
    others = run.converged
    generator = torch.Generator().manual_seed(0)
    mixed, still = test.values.clone(), test.values.clone()
    mixed[:, 1:] = mixed[:, 1:, torch.randperm(test.points, generator=generator)]
    still[:, 3] = 0
    changed = {"depth permuted": mixed, "at rest": still}
    found = {
        **scores_of(made.passed(test.values).numpy(), test),
        **{f"{key}, run": v for key, v in scores_of(made.passed(others.values).numpy(), others).items()},
        **{f"{ERROR}, {name}": scores_of(made.passed(given).numpy(), test)[ERROR] for name, given in changed.items()},
    }
    beyond = [float((made.outside(columns).max(axis=1) > 0).mean()) for columns in (test, others)]
    rows = LineEmulator(**settings).chosen(threads, Runtime(QUIET, seed))
    few = rivals_of(threads.subset(rows), test, method.floor, step_of(test.known.wavelengths))
    return {
        **found,
        "beyond what was seen": beyond[0],
        "beyond what was seen, run": beyond[1],
        "parameters": made.parameters,
        "seconds of training": round(taken, 1),
        "seconds a column": made.timed(test).seconds["student"],
        "rivals from the same columns": {name: scores_of(profiles, test)[ERROR] for name, profiles in few.items()},
    }


def reached(found: dict[str, Any]) -> dict[str, Any]:
    """The student of all columns against the targets."""
    error = statistics.fmean(seed[ERROR] for seed in found["rows"]["all"]["seeds"])
    seconds = statistics.fmean(seed["seconds a column"] for seed in found["rows"]["all"]["seeds"])
    return {
        "rms/peak": error,
        "of nearest column": error / found["rivals"][NEAREST][ERROR],
        "of ridge": error / found["rivals"][RIDGE][ERROR],
        "teacher, CPU minutes": found["teacher"]["CPU minutes"],
        "times faster": found["teacher"]["seconds a column"] / seconds,
    }


def table(found: dict[str, Any]) -> Table:
    """A line for each row and rival."""
    columns = (ERROR, "9 of 10 below", INTEGRATED, f"{ERROR}, run", f"{INTEGRATED}, run")
    grid = Table(title=found["teacher"]["note"])
    for name in ("row", *columns, "CPU s"):
        grid.add_column(name)
    for name, row in found["rows"].items():
        cells = [Score.of([seed[column] for seed in row["seeds"]], "").number for column in columns]
        grid.add_row(name, *cells, f"{statistics.fmean(s['seconds of training'] for s in row['seeds']):.0f}")
    for name in found["rivals"]:
        grid.add_row(name, *(f"{found['rivals'][name][column]:.4g}" for column in columns), "")
    return grid


if __name__ == "__main__":
    main()
