"""Encoders of samples with several labels beside end-to-end training, on tables and on mosaics of pictures.

    python bench/multilabel.py --quick                                   # does it run
    ATTAR_DATA=... python bench/multilabel.py                            # recorded in bench/results/multilabel.json
    ATTAR_DATA=... python bench/multilabel.py --data emotions --only probmcl

Each seed is a split of the data and a training, the same for all rows, so that differences are paired by seed. A run
is recorded when it ends; what is recorded is not run again. Scores are mAP on the test samples: of the classifier that
a method trains, else of a linear probe on its features. Thresholds are chosen on a held-out tenth of the training
samples. Images of CIFAR-10 are scaled to 16 pixels before four of them are laid together.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import harness
from rich.console import Console
from rich.table import Table

import attar
from attar.core.progress import as_text
from attar.core.registry import METHODS
from attar.core.runtime import Engine
from attar.core.score import Score, paired
from attar.embeddings import mosaics_of
from attar.embeddings.reading import Reading
from attar.embeddings.sources import Source
from attar.images.sources import load

RECORD = "multilabel.json"
TABLES = {"emotions": 40, "scene": 15, "yeast": 15}
"""Epochs on each table."""
SEEDS = {**dict.fromkeys(TABLES, 5), "mosaics": 3, "cifar-mosaics": 3}
FIRST = "BCE, corrupted views"
QUIET = Engine(quiet=True, device="cpu")
FEATURES = {"linear": {"epochs": 0}}
"""Of methods that train features only: their score is a probe's."""


def rows(data: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Each row with its method and settings."""
    views = {"view": {"recipe": "none"}}
    return {
        FIRST if data in TABLES else "BCE": ("multilabel", {"loss": "bce"}),
        "BCE, no views": ("multilabel", {"loss": "bce", **views}),
        "focal": ("multilabel", {"loss": "focal"}),
        "ASL": ("multilabel", {"loss": "asl"}),
        "KMCL": ("kmcl", {}),
        "KMCL, J inside": ("kmcl", {"jaccard": "inside_log"}),
        "ProbMCL, overlap": ("probmcl", {}),
        "ProbMCL, Jaccard": ("probmcl", {"positives": "jaccard"}),
        "SupCon, overlap": ("supcon", {"positives": "overlap", "threshold": 0.5}),
        "SupCon, Jaccard": ("supcon", {"positives": "jaccard", "threshold": 0.5}),
        "SupCon, Jaccard weights": ("supcon", {"positives": "jaccard", "weighted": True}),
        "SimCLR": ("simclr", FEATURES),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two epochs and one seed; records nothing")
    parser.add_argument("--data", nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--only", nargs="+", help="rows")
    parser.add_argument("--seeds", type=int, default=None)
    args = parser.parse_args()
    path = harness.RESULTS / RECORD
    found: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8"))["data"] if path.exists() and not args.quick else {}
    )
    for data in args.data:
        cells = found.setdefault(data, {"rows": {}})
        for seed in range(1 if args.quick else args.seeds or SEEDS[data]):
            source = source_of(data, seed)
            cells["source"] = str(source).splitlines()[0].partition(", split")[0]
            for name, (method, settings) in rows(data).items():
                if args.only and name not in args.only:
                    continue
                row = cells["rows"].setdefault(name, {"seeds": {}, "method": method, "settings": settings})
                if str(seed) in row["seeds"]:
                    continue
                row["seeds"][str(seed)] = measured(method, {**usual(data, quick=args.quick), **settings}, source, seed)
                print(data, seed, name, row["seeds"][str(seed)], flush=True)
                if not args.quick:
                    harness.record(RECORD, {"machine": harness.machine(), "data": found})
            if not args.only and str(seed) not in cells.get("beside", {}):
                cells.setdefault("beside", {})[str(seed)] = rivals(data, source, seed, quick=args.quick)
                print(data, seed, cells["beside"][str(seed)], flush=True)
                if not args.quick:
                    harness.record(RECORD, {"machine": harness.machine(), "data": found})
        Console(soft_wrap=True).print(as_text(table(cells, data)))


def source_of(data: str, seed: int) -> Source:
    """The data in the split of a seed."""
    if data == "mosaics":
        return Reading(split_seed=seed).load("mosaics")
    root = Path(os.environ["ATTAR_DATA"])
    if data == "cifar-mosaics":
        return mosaics_of(load(root / "cifar10", size=16), train=2000, test=1000, seed=seed)
    return Reading(split_seed=seed).load(str(root / "multilabel" / f"{data}.parquet"))


def usual(data: str, *, quick: bool) -> dict[str, Any]:
    """The settings of all rows."""
    if data in TABLES:
        how = {"encoder": "mlp:width=256,depth=2,features=128", "epochs": TABLES[data], "batch": 64}
    else:
        width, epochs = (64, 40) if data == "mosaics" else (32, 25)
        how = {"encoder": f"convnet:norm=batch,width={width},depth=3", "epochs": epochs, "batch": 64}
    return {"held_out": 0.1, **how} | ({"epochs": 2} if quick else {})


def measured(name: str, settings: dict[str, Any], source: Source, seed: int) -> dict[str, Any]:
    """Scores of one run."""
    method = METHODS[name].load().from_json(settings)
    start = time.perf_counter()
    made = attar.train(source, method, seed=seed, engine=QUIET)
    seconds = time.perf_counter() - start
    row = attar.evaluate(made, source, measures=("map",), beside="skip", seed=seed, engine=QUIET).rows[0]
    scores = {cell.column: round(cell.score.value, 3) for cell in row.cells}
    return {"map": scores["mAP"], "micro_f1": scores["OF1 (micro-F1)"], "seconds": round(seconds, 1)}


def rivals(data: str, source: Source, seed: int, *, quick: bool) -> dict[str, float]:
    """Scores of what trains no encoder: raw features, a random encoder, ExtraTrees."""
    method = METHODS["simclr"].load().from_json({**usual(data, quick=quick), "epochs": 1})
    made = attar.train(source, method, seed=seed, engine=QUIET)
    row = attar.evaluate(made, source, measures=("map",), beside="run", seed=seed, engine=QUIET).rows[0]
    return {one.label: round(one.score.value, 3) for one in row.cells[0].rivals if not one.label.startswith("BCE")}


def table(cells: dict[str, Any], data: str) -> Table:
    """mAP of each row, and its difference to BCE with the same views, in pairs of seeds."""
    grid = Table("row", "mAP, %", "over BCE with the same views", "OF1, %", title=data)
    first = next(iter(rows(data)))
    for name, row in cells["rows"].items():
        values = [one["map"] for one in row["seeds"].values()]
        base = [one["map"] for one in cells["rows"][first]["seeds"].values()] if first in cells["rows"] else []
        over = paired(values, base).told("%") if len(base) == len(values) and name != first else ""
        micro = Score.of([one["micro_f1"] for one in row["seeds"].values()])
        grid.add_row(name, Score.of(values).number, over, micro.number)
    beside: dict[str, list[float]] = {}
    for seed in cells.get("beside", {}).values():
        for name, value in seed.items():
            beside.setdefault(name, []).append(value)
    for name, values in beside.items():
        grid.add_row(name, Score.of(values).number, "", "")
    return grid


if __name__ == "__main__":
    main()
