"""Fair tables on Adult, COMPAS and German credit: what they keep, and what gap is left, beside everything simpler.

    ATTAR_DATA=... python bench/fair_tables.py --quick                       # does it run
    ATTAR_DATA=... python bench/fair_tables.py                               # into bench/results/fair_tables.json
    ATTAR_DATA=... python bench/fair_tables.py --data compas --only "β 3"    # one data set, one row
    ATTAR_DATA=... python bench/fair_tables.py --data adult --paper          # the published settings, one seed

A seed is a split of the data (of Adult, which has a test file, a choice of 6,000 training rows), a training and its
tables, the same split for all rows, so that differences are paired by seed. Classifiers are trained on each of ten
decoded tables and tested on real rows. A row keeps its values by seed and table, so that the spread over tables stands
apart from that over trainings. A run is recorded when it ends; what is recorded is not run again. Real rows with and
without mitigation, a constant and shuffled labels stand beside, from the same split.
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
from attar.tables.reading import Reading
from attar.tables.sources import TableSource

RECORD = "fair_tables.json"
SEEDS = {"adult": 5, "compas": 5, "german": 5}
ADULT_ROWS = 6000
CORESET_ROWS = {"adult": 1000, "compas": 1000, "german": 400}
"""German credit has 802 training rows."""
FIRST = "β 3"
QUIET = Engine(quiet=True, device="cpu")
SHOWN = ("AUROC", "DPD", "DPD at matched rate", "EOD")
TABLES = 10
BRIEF = {"teaching": {"epochs": 2}, "learning": {"student_epochs": 1}, "tables": 2, "rows": 100}
"""Settings of fair tables in a quick run."""
BRIEF_RIVALS = {
    "tvae": {"epochs": 2},
    "tabfairgan": {"epochs": 2, "fair_epochs": 1},
    **{name: {"rows": 100} for name in ("table-random", "table-herding", "table-k-center")},
}


def fair(**settings: Any) -> tuple[str, dict[str, Any]]:
    return "fair", {"tables": TABLES, **settings}


def unscaled(weight: float, **settings: Any) -> tuple[str, dict[str, Any]]:
    return fair(fairness_weight=weight, teaching={"penalty": "exact"}, **settings)


def rows(data: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Each row with its method and settings."""
    some = CORESET_ROWS[data]
    weights = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    return {
        **{f"β {weight:g}": fair(fairness_weight=weight) for weight in weights},
        "β 1e7, V² without its scale": unscaled(1e7),
        "β 3, no student": fair(student="none"),
        "β 3, student of noise": fair(student="noise"),
        "β 3, student by MMD": fair(learning={"quality": "mmd"}),
        "β 0, group kept, no student": fair(fairness_weight=0.0, decoding="keep", student="none"),
        "β 3, group kept": fair(decoding="keep"),
        "β 3, group permuted": fair(decoding="permute"),
        "β 3, spectral": fair(teaching={"penalty": "spectral"}),
        "β 3, medians in bins": fair(cutting={"within": "median"}),
        "β 3, learned places in bins": fair(cutting={"within": "learned"}),
        "β 3, bins of equal width": fair(cutting={"edges": "width"}),
        "copula": ("copula", {}),
        "copula of reweighed rows": ("copula-reweighed", {}),
        "TVAE": ("tvae", {}),
        "TabFairGAN": ("tabfairgan", {}),
        f"{some:,} random rows": ("table-random", {"rows": some}),
        f"{some:,} rows, herding": ("table-herding", {"rows": some}),
        f"{some:,} rows, k-center": ("table-k-center", {"rows": some}),
        f"β 3, {some:,} rows": fair(rows=some),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two epochs and one seed; records nothing")
    parser.add_argument("--data", nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--only", nargs="+", help="rows")
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--paper", action="store_true", help="the published settings on all rows, one seed")
    args = parser.parse_args()
    path = harness.RESULTS / RECORD
    found: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8"))["data"] if path.exists() and not args.quick else {}
    )
    for data in args.data:
        name = f"{data}, published settings" if args.paper else data
        cells = found.setdefault(name, {"rows": {}})
        for seed in range(1 if args.quick or args.paper else args.seeds or SEEDS[data]):
            one(cells, name, data, seed, args, found)
        Console(soft_wrap=True).print(as_text(table(cells, name)))


def one(cells: dict[str, Any], name: str, data: str, seed: int, args: argparse.Namespace, found: Any) -> None:
    """All rows of one seed."""
    source = source_of(data, seed, whole=args.paper, quick=args.quick)
    cells["source"] = str(source).splitlines()[0].partition(", split")[0]
    for row_name, (method, settings) in (published(data) if args.paper else rows(data)).items():
        if args.only and row_name not in args.only:
            continue
        row = cells["rows"].setdefault(row_name, {"seeds": {}, "method": method, "settings": settings})
        if str(seed) in row["seeds"] or method not in METHODS:
            continue
        brief = (BRIEF if method == "fair" else BRIEF_RIVALS.get(method, {})) if args.quick else {}
        row["seeds"][str(seed)] = measured(method, merged(settings, brief), source, seed)
        print(name, seed, row_name, json.dumps(told(row["seeds"][str(seed)])), flush=True)
        keep(found, args)
    if str(seed) not in cells.get("beside", {}):
        cells.setdefault("beside", {})[str(seed)] = rivals(source, seed)
        keep(found, args)


def keep(found: Any, args: argparse.Namespace) -> None:
    if not args.quick:
        harness.record(RECORD, {"machine": harness.machine(), "data": found})


def published(data: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """The published settings as a row; German has none of its own."""
    settings = METHODS["fair"].load().paper("adult" if data == "german" else data).to_json()
    return {"published settings": ("fair", settings)}


def source_of(data: str, seed: int, *, whole: bool, quick: bool) -> TableSource:
    """The data in the split of a seed."""
    folder = Path(os.environ["ATTAR_DATA"]) / "tabular"
    if data == "adult":
        source = Reading().load(folder / "adult.data.gz")  # with adult.test.gz, which lies beside it
        count = 500 if quick else len(source.train) if whole else ADULT_ROWS
        order = torch.randperm(len(source.train), generator=torch.Generator().manual_seed(seed))
        return source if whole else source.subset(order[:count])
    name = {"compas": "compas_two_years_noid.csv", "german": "german.data"}[data]
    source = Reading(split_seed=seed).load(folder / name)
    return source.subset(torch.arange(500)) if quick else source


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    nested = {name: merged(below[name], value) for name, value in above.items() if isinstance(below.get(name), dict)}
    return {**below, **above, **nested}


def measured(name: str, settings: dict[str, Any], source: TableSource, seed: int) -> dict[str, Any]:
    """Scores of one run over its tables."""
    method = METHODS[name].load().from_json(settings)
    start = time.perf_counter()
    made = attar.condense(source, method, seed=seed, engine=QUIET)
    seconds = time.perf_counter() - start
    row = attar.evaluate(made, source, beside="skip", seed=seed, engine=QUIET).rows[0]
    return {
        "scores": {cell.column: [round(value, 3) for value in cell.values[0]] for cell in row.cells},
        "further": {
            name: round(measure.score.value, 3) for cell in row.cells for name, measure in cell.further.items()
        },
        "codes": dict(made.scores),
        "seconds": round(seconds, 1),
    }


def told(row: dict[str, Any]) -> dict[str, Any]:
    """What a line of the terminal says of a run."""
    codes = {name: value for name, value in row["codes"].items() if name in ("AUC(s|z)", "AUC(s|μ)", "AUC(y|z)")}
    means = {name: round(statistics.fmean(row["scores"][name]), 1) for name in SHOWN if name in row["scores"]}
    return {**means, **codes, **({"collapsed": True} if "collapsed" in row["codes"] else {}), "s": row["seconds"]}


def rivals(source: TableSource, seed: int) -> dict[str, Any]:
    """Scores of real rows: as they are, without the group, mitigated; and of a constant and of shuffled labels."""
    made = attar.condense(source, METHODS["table-random"].load()(rows=len(source.train)), engine=QUIET)
    row = attar.evaluate(made, source, beside="run", seed=seed, engine=QUIET).rows[0]
    found: dict[str, dict[str, float]] = {}
    for cell in row.cells:
        for rival in cell.rivals:
            found.setdefault(rival.label, {})[cell.column] = round(rival.score.value, 3)
    return found


def table(cells: dict[str, Any], name: str) -> Table:
    """Each row with its spread over trainings, that over tables, and its difference in AUROC to the first, in pairs."""
    grid = Table("row", *(f"{column}, %" for column in SHOWN), "AUROC over tables", f"AUROC over {FIRST}", title=name)
    base = cells["rows"].get(FIRST, {"seeds": {}})["seeds"]
    for label, row in cells["rows"].items():
        runs = list(row["seeds"].values())
        if not runs:
            continue
        means = {column: [statistics.fmean(run["scores"][column]) for run in runs] for column in SHOWN}
        inside = [statistics.stdev(values) for run in runs if len(values := run["scores"]["AUROC"]) > 1]
        both = [seed for seed in row["seeds"] if seed in base]
        over = ""
        if label != FIRST and len(both) > 1:
            pairs = [[statistics.fmean(one[seed]["scores"]["AUROC"]) for seed in both] for one in (row["seeds"], base)]
            over = paired(*pairs).told("%")
        collapsed = sum("collapsed" in run["codes"] for run in runs)
        shown = label + (f" (collapsed: {collapsed} of {len(runs)})" if collapsed else "")
        spread = f"± {statistics.fmean(inside):.1f}" if inside else ""
        grid.add_row(shown, *(Score.of(means[column]).number for column in SHOWN), spread, over)
    by_label: dict[str, list[dict[str, float]]] = {}
    for seed in cells.get("beside", {}).values():
        for label, scores in seed.items():
            by_label.setdefault(label, []).append(scores)
    for label, several in by_label.items():
        known = [[scores[column] for scores in several if column in scores] for column in SHOWN]
        grid.add_row(label, *(Score.of(values).number if values else "" for values in known), "", "")
    return grid


if __name__ == "__main__":
    main()
