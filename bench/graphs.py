"""What fresh networks learn from a few condensed graphs: every method and rival on NCI1 and PROTEINS, with intervals.

    ATTAR_DATA=... python bench/graphs.py --quick              # does it run
    ATTAR_DATA=... python bench/graphs.py --record graphs.json # the table, recorded below bench/results

Repeated stratified ten-fold cross-validation: the same folds, the same starts and the same networks for every method.
Differences are to the real graphs that the learning methods start from, fold by fold, with intervals corrected for
overlapping folds (Nadeau and Bengio). Both the last epoch and the one chosen by validation graphs are in the table.
A run that was stopped goes on where it stopped: give the same --out.
"""

import argparse
import os
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness

import attar.graphs as graphs
from attar.core.errors import InputError
from attar.core.runtime import Engine
from attar.graphs.crossvalidation import CrossValidation

METHODS = ("graph-start", "graph-random", "graph-herding", "graph-k-center", "doscond", "gstam")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run of the drawn motifs that records nothing")
    parser.add_argument(
        "--sets", nargs="+", default=["NCI1", "PROTEINS"], help="TU sets below $ATTAR_DATA/tu, or motifs"
    )
    parser.add_argument("--gpc", type=int, nargs="+", default=[1, 10, 50], help="graphs per class")
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=METHODS, help="rows; the first is the zero"
    )
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3, help="how often the graphs are dealt out anew")
    parser.add_argument("--steps", type=int, default=1000, help="iterations of the learning methods")
    parser.add_argument("--real-batch", type=int, default=256, help="real graphs per class and step")
    parser.add_argument("--epochs", type=int, default=500, help="epochs of the networks that are tested")
    parser.add_argument("--network", default="gcn", help="what is tested: gcn, gin, gat, sage")
    parser.add_argument("--whole", action="store_true", help="networks trained on the whole folds too (hours)")
    parser.add_argument("--out", type=Path, default=Path("runs") / "graphs", help="where the runs go")
    parser.add_argument("--record", metavar="FILE.json", help="result file below bench/results")
    args = parser.parse_args()
    if args.quick:
        args.sets, args.gpc, args.folds, args.repeats = ["motifs"], [2], 3, 1
        args.steps, args.real_batch, args.epochs = 3, 8, 4
        args.out = args.out / "quick"
    cells: dict[str, Any] = {}
    for name in args.sets:
        for gpc in args.gpc:
            result = compare(name, gpc, args)
            cells[f"{name}, {gpc} per class"] = result.to_json()
            print(f"{result}\n{verdict(result)}\n", flush=True)
            if args.record and not args.quick:  # as it stands, so that a long table can be read on the way
                setting = {
                    key: str(value) for key, value in vars(args).items() if key not in ("out", "record", "quick")
                }
                harness.record(
                    args.record, {"machine": harness.machine(), "setting": setting, "cells": cells}, beside=True
                )


def compare(name: str, gpc: int, args: argparse.Namespace) -> CrossValidation:
    """One cell of the table."""
    source = graphs.load(name if name == "motifs" else Path(os.environ["ATTAR_DATA"]) / "tu" / name)
    return graphs.cross_validate(
        {method: settings(method, name, gpc, args) for method in args.methods},
        source,
        folds=args.folds,
        repeats=args.repeats,
        network=args.network,
        protocol=graphs.Protocol(name=f"{args.epochs} epochs", epochs=args.epochs),
        whole=args.whole,
        out=args.out / f"{name}-{gpc}",
        engine=Engine(device="cpu", quiet=True),
        say=lambda line: print(line, flush=True),
    )


def settings(method: str, name: str, gpc: int, args: argparse.Namespace) -> Any:
    """A row's method; learning methods with the scripts' step sizes where there are any, else with the defaults."""
    if method in ("gstam", "doscond"):
        kind = graphs.GSTAM if method == "gstam" else graphs.DosCond
        try:
            start = kind.paper(name, gpc=gpc)
        except InputError:
            start = kind(gpc=gpc)
        return replace(start, nodes=None, steps=args.steps, real_batch=args.real_batch, drop_at=int(0.4 * args.steps))
    kinds = {
        "graph-start": graphs.GraphStart,
        "graph-random": graphs.GraphRandom,
        "graph-herding": graphs.GraphHerding,
        "graph-k-center": graphs.GraphKCenter,
    }
    return kinds[method](gpc=gpc)


def verdict(result: CrossValidation) -> str:
    """The learning methods against the best of the others, and how long they took."""
    lines = []
    for row in result.rows:
        if row.method in ("gstam", "doscond"):
            rival = result.best_rival(row.method)
            gain, chosen = (result.gain(row.method, rival, when) for when in ("last", "chosen"))
            mean = statistics.fmean(row.last)
            lines.append(
                f"{row.method} {mean:.1f}, minus {rival}: {gain} (chosen epochs {chosen}), {row.seconds:.1f} s"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
