"""Samplers of one call beside each other on digits: DMD2, its rivals, and the teacher that all are distilled from.

    python bench/samplers.py --quick                      # does it run
    python bench/samplers.py                              # recorded in bench/results/samplers.json
    python bench/samplers.py --only "DMD2" "pairs" --seeds 1

A seed is a training of the teacher and of its students, from the same teacher. All are measured on as many new samples
as there are training images, from the same noise, on features of the same networks. Seconds are CPU seconds of a
training on one thread; those of a student do not count its teacher, and count what it draws from it. A run is recorded
when it ends; what is recorded is not run again.

    ATTAR_DATA=... python bench/samplers.py --data cifar10 --minutes 60

trains a U-Net on CIFAR-10 at 32 pixels for as long, and one student of pairs for a fifth of that.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import harness
import torch
from rich.console import Console
from rich.table import Table

import attar
from attar.core.progress import as_text
from attar.core.registry import METHODS
from attar.core.runtime import Engine
from attar.core.score import Score, paired
from attar.samplers.reading import Reading
from attar.samplers.sources import Source

RECORD = "samplers.json"
QUIET = Engine(quiet=True, device="cpu")
TEACHER, FIRST = "EDM", "pairs"
SEEDS = 3
SHOWN = {
    "rFD, MLP (%)": "rFD, MLP, %",
    "rFD, convnet (%)": "rFD, convnet, %",
    "precision": "precision, %",
    "recall": "recall, %",
    "class accuracy": "class accuracy, %",
    "memorisation excess": "memorisation excess, %",
}
"""The columns that are shown, by their names in an evaluation."""
PLAIN = {"warm_start": 0}
GAN = {"gan_weight": 3e-3}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    FIRST: ("pairs", {}),
    "consistency": ("consistency", {}),
    "consistency training": ("consistency-data", {}),
    **{f"progressive, {calls} calls": ("progressive", {"calls": calls}) for calls in (8, 4, 2)},
    "progressive": ("progressive", {"calls": 1}),
    "DMD, K 1": ("dmd2", {**PLAIN, "critic_steps": 1, "steps": 1200}),
    "DMD, K 5": ("dmd2", {**PLAIN, "steps": 6000}),
    "DMD, K 5, GAN term": ("dmd2", {**PLAIN, **GAN, "steps": 6000}),
    "DMD2": ("dmd2", {}),
    "DMD2, GAN term": ("dmd2", GAN),
}
"""Each row with its method and settings."""
AT_FEWER = (9, 4, 2, 1)
"""Noise levels at which the teacher is sampled too."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps and one seed; records nothing")
    parser.add_argument("--data", choices=["digits", "cifar10"], default="digits")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="ROW", help="rows")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--minutes", type=float, default=60, help="of the training on CIFAR-10")
    args = parser.parse_args()
    path = harness.RESULTS / RECORD
    found: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8"))["data"] if path.exists() and not args.quick else {}
    )
    cells = found.setdefault(args.data, {"rows": {}})

    def keep() -> None:
        if not args.quick:
            harness.record(RECORD, {"machine": harness.machine(), "data": found})

    if args.data == "cifar10":
        cifar(cells, args, keep)
        return
    torch.set_num_threads(1)
    source = Reading().load("digits")
    cells["source"] = str(source).splitlines()[0]
    for seed in range(1 if args.quick else args.seeds):
        one(cells["rows"], source, seed, args, keep)
    Console(soft_wrap=True).print(as_text(table(cells["rows"])))


def one(rows: dict[str, Any], source: Source, seed: int, args: argparse.Namespace, keep: Any) -> None:
    """All rows of one seed."""
    brief = {"steps": 20} if args.quick else {}
    wanted = [name for name in args.only or ROWS if str(seed) not in rows.get(name, {"seeds": {}})["seeds"]]
    if not wanted:
        return
    teacher, seconds = made(TEACHER, source, seed, {**brief})
    if str(seed) not in rows.setdefault(TEACHER, {"seeds": {}})["seeds"]:
        rows[TEACHER]["seeds"][str(seed)] = {**scores_of(teacher, source), "seconds": seconds}
        for levels in AT_FEWER:
            calls = 2 * levels - 1
            row = rows.setdefault(f"{TEACHER}, {calls} call{'s' if calls > 1 else ''}", {"seeds": {}})
            row["seeds"][str(seed)] = scores_of(fewer(teacher, levels), source)
        keep()
    for name in wanted:
        method, settings = ROWS[name]
        student, seconds = made(method, source, seed, {**settings, **brief}, teacher=teacher)
        row = rows.setdefault(name, {"method": method, "settings": settings, "seeds": {}})
        row["seeds"][str(seed)] = {**scores_of(student, source), "seconds": seconds}
        print(seed, name, {label: row["seeds"][str(seed)].get(column) for column, label in SHOWN.items()}, flush=True)
        keep()


def made(name: str, source: Source, seed: int, settings: dict[str, Any], teacher: Any = None) -> tuple[Any, float]:
    """A sampler, and the CPU seconds of its training."""
    entry = METHODS[name.lower()]
    method = entry.load().from_json(settings)
    began = time.process_time()
    if entry.verb == "train":
        return attar.train(source, method, seed=seed, engine=QUIET), round(time.process_time() - began, 1)
    student = attar.distill(source, method, teacher=teacher, seed=seed, engine=QUIET)
    return student, round(time.process_time() - began, 1)


def fewer(teacher: Any, levels: int) -> Any:
    """A teacher that is sampled at fewer noise levels."""
    from dataclasses import replace

    return replace(teacher, steps=levels)


def scores_of(sampler: Any, source: Source) -> dict[str, Any]:
    """Everything that is measured of a sampler, by name."""
    row = attar.evaluate(sampler, source, beside="skip", engine=QUIET).rows[0]
    found = {cell.column: cell.score.value for cell in row.cells}
    for cell in row.cells:
        end = ", test" if cell.column.endswith(", test") else ""
        found |= {f"{name}{end}": measure.score.value for name, measure in cell.further.items()}
    return {"calls": sampler.calls, **found}


def table(rows: dict[str, Any]) -> Table:
    """A line for each row: its measures over seeds, and its seconds."""
    grid = Table(title="digits")
    for name in ("row", "calls", *SHOWN.values(), "recall over pairs", "CPU s"):
        grid.add_column(name)
    for name, row in rows.items():
        seeds = list(row["seeds"].values())
        cells = [Score.of([one[column] for one in seeds]).number if column in seeds[0] else "" for column in SHOWN]
        seconds = [one["seconds"] for one in seeds if "seconds" in one]
        told = f"{statistics.fmean(seconds):.0f}" if seconds else ""
        grid.add_row(name, str(seeds[0]["calls"]), *cells, over(rows, name), told)
    return grid


def over(rows: dict[str, Any], name: str) -> str:
    """Recall of a row minus that of the pairs, in pairs of seeds."""
    mine, theirs = rows[name]["seeds"], rows.get(FIRST, {"seeds": {}})["seeds"]
    both = sorted(mine.keys() & theirs.keys())
    if name == FIRST or len(both) < 2:
        return ""
    return paired([mine[one]["recall"] for one in both], [theirs[one]["recall"] for one in both]).told()


def cifar(cells: dict[str, Any], args: argparse.Namespace, keep: Any) -> None:
    """A U-Net on CIFAR-10 for so many minutes, and a student of pairs for a fifth of them."""
    source = Reading().load(str(Path(os.environ["ATTAR_DATA"]) / "cifar10"))
    if args.quick:
        source = source.subset(torch.arange(64))
    cells["source"] = str(source).splitlines()[0]
    seconds = 60 * args.minutes if not args.quick else 20
    usual = {"network": "unet:width=32", "batch": 8 if args.quick else 64}
    rate = seconds_of_a_step("edm", source, usual, None)
    teacher, spent = made("edm", source, 0, {**usual, "steps": max(1, int(seconds / rate)), "lr": 4e-4})
    cells["rows"][TEACHER] = {"seeds": {"0": {**scores_of(teacher, source), "cpu_seconds": spent}}}
    keep()
    few = {"batch": usual["batch"], "pairs": 16 if args.quick else 2000}
    rate = seconds_of_a_step("pairs", source, few, teacher)
    student, spent = made("pairs", source, 0, {**few, "steps": max(1, int(seconds / 5 / rate))}, teacher)
    cells["rows"][FIRST] = {"seeds": {"0": {**scores_of(student, source), "cpu_seconds": spent}}}
    keep()
    Console(soft_wrap=True).print(as_text(table(cells["rows"])))


def seconds_of_a_step(name: str, source: Source, settings: dict[str, Any], teacher: Any) -> float:
    """Seconds of a step: those of five steps minus those of two, over three."""
    took = []
    for steps in (2, 5):
        began = time.perf_counter()
        made(name, source, 1, {**settings, "steps": steps}, teacher)
        took.append(time.perf_counter() - began)
    return max((took[1] - took[0]) / 3, 1e-3)


if __name__ == "__main__":
    main()
