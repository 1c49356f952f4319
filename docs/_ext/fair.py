"""Tables and the picture of fair tables, as recorded. What is not recorded yet is left out."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from results import Facts, lowest, recorded, there, times, took

from attar.core.card import table
from attar.core.score import Score, paired
from attar.tables.pictures import Point

DOCS = Path(__file__).parents[1]
RECORD, FIRST = "fair_tables", "β 3"
SHOWN = ("AUROC", "DPD", "DPD at matched rate", "EOD")
LEAKS = {"AUC(s|z)": "AUC of s from z", "AUC(s|μ)": "s from μ", "AUC(y|z)": "y from z"}
"""What is read from the codes, in words without a bar, which would end a cell of a table."""
CURVE = "FairTables over β"
RIVALS = ("copula", "copula of reweighed rows", "TVAE", "TabFairGAN", "random rows")
"""Ends of the names of rows that stand in the picture as single points."""
BESIDE = ("drop-s", "reweighing", "correlation remover", "shuffled labels")
"""Rivals on real rows that stand in the picture, besides the real rows themselves."""
WORDS = {
    RECORD: """## Fair tables

`bench/fair_tables.py`. A seed is a split (of Adult a choice of 6,000 training rows) and a training, the same for all
rows of a table. Classifiers (gradient-boosted trees) are trained on each of ten decoded tables and tested on real rows.
± is over trainings; the spread over the tables of one training stands apart. Differences are in pairs of seeds. A run
is collapsed if the code no longer tells the label. s is the group, y the label, z a sampled code and μ its mean. The
last rows train on real rows.""",
}


def fair_tables() -> str:
    """Every row on every data set."""
    parts = []
    for name, cells in recorded(RECORD)["data"].items():
        found = _of_data(cells)
        if found:
            drawn = f"\n\n![AUROC against DPD on {name}, over β and beside rivals.]({picture_of(name)})"
            shown = drawn if (DOCS / picture_of(name)).exists() else ""
            parts.append(f"**{name}** ({cells['source']})\n\n{found}{shown}")
    return "\n\n".join(parts)


def picture_of(data: str) -> str:
    """The file of a data set's picture."""
    name, _, settings = data.partition(", ")
    return f"fair_{name}_{settings.partition(' ')[0]}.png" if settings else f"fair_{name}.png"


def _of_data(cells: Facts) -> str:
    lines = []
    base = cells["rows"].get(FIRST, {"seeds": {}})["seeds"]
    for label, row in cells["rows"].items():
        runs = list(row["seeds"].values())
        if not runs:
            continue
        means = [Score.of(_means(runs, column)).number for column in SHOWN]
        inside = [statistics.stdev(values) for run in runs if len(values := run["scores"]["AUROC"]) > 1]
        both = [seed for seed in row["seeds"] if seed in base and label != FIRST]
        sides = [_means([one[seed] for seed in both], "AUROC") for one in (row["seeds"], base)]
        gap = str(paired(*sides)) if both else ""
        collapsed = sum("collapsed" in run["codes"] for run in runs)
        told = f"{label} (collapsed: {collapsed} of {len(runs)})" if collapsed else label
        spread = f"{statistics.fmean(inside):.1f}" if inside else ""
        seconds = f"{statistics.fmean(run['seconds'] for run in runs):.0f}"
        lines.append((told, *means, spread, gap, *(_leak(runs, name) for name in LEAKS), seconds))
    for label, several in beside(cells).items():
        known = [[scores[column] for scores in several if column in scores] for column in SHOWN]
        numbers = [Score.of(values).number if values else "" for values in known]
        lines.append((label, *numbers, *[""] * (3 + len(LEAKS))))
    heads = (*(f"{column}, %" for column in SHOWN), "spread over tables", f"AUROC minus {FIRST}'s", *LEAKS.values())
    return table(("row", *heads, "seconds"), lines) if lines else ""


def _means(runs: Sequence[Facts], column: str) -> list[float]:
    """The mean over the tables of each run."""
    return [statistics.fmean(run["scores"][column]) for run in runs]


def _leak(runs: Sequence[Facts], name: str) -> str:
    """The mean of what was read from the codes, where it was measured."""
    values = [run["codes"][name] for run in runs if name in run["codes"]]
    return f"{statistics.fmean(values):.2f}" if values else ""


def beside(cells: Facts) -> dict[str, list[Mapping[str, float]]]:
    """The rivals on real rows by name, over the seeds."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for seed in cells.get("beside", {}).values():
        for label, scores in seed.items():
            found.setdefault(label, []).append(scores)
    return found


def points(data: str) -> tuple[dict[str, list[Point]], list[Point]]:
    """For the picture: the curve over β, and the rivals."""
    cells = recorded(RECORD)["data"][data]
    curve, single = [], []
    for label, row in cells["rows"].items():
        runs = list(row["seeds"].values())
        weight = label.removeprefix("β ")
        if runs and label.startswith("β ") and weight.replace(".", "").isdigit():
            curve.append(_point(label, runs, text=weight))
        elif runs and label.endswith(RIVALS):
            single.append(_point(label, runs))
    for label, several in beside(cells).items():
        known = [scores for scores in several if {"AUROC", "DPD"} <= scores.keys()]
        name = label.partition(", ")[0]
        if known and (name in BESIDE or name.endswith("real rows")):
            single.append(_at(label, *([scores[column] for scores in known] for column in ("AUROC", "DPD"))))
    return ({CURVE: sorted(curve, key=lambda one: float(one.text))} if curve else {}), single


def _point(label: str, runs: Sequence[Facts], text: str = "") -> Point:
    return _at(label, _means(runs, "AUROC"), _means(runs, "DPD"), text)


def _at(label: str, auroc: Sequence[float], dpd: Sequence[float], text: str = "") -> Point:
    spreads = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in (auroc, dpd)]
    return Point(label, statistics.fmean(auroc), statistics.fmean(dpd), *spreads, text)


def steps() -> Iterator[tuple[str, ...]]:
    """V² beside the loop of the public code, as rows of the table of speed."""
    if not there("dependence"):
        return
    for name in recorded("dependence")["parts"]:
        facts = lowest("dependence", lambda all_, n=name: all_["parts"][n], lambda row: row.get("ratio", 0.0))
        sizes = facts["sizes"]
        what = f"V² of {sizes['rows']:,} rows, {sizes['latents']} latent dimensions, {sizes['groups']} groups"
        sides = [_side(facts[side]) if side in facts else "" for side in ("rival", "attar")]
        yield f"{what}, rival FairDisCo's loop", *sides, times(facts["ratio"]) if "ratio" in facts else ""


def _side(facts: Facts) -> str:
    memory = facts["mb"]
    return f"{took(facts['seconds'])}, " + (f"{memory / 1000:.1f} GB" if memory >= 1000 else f"{max(memory, 0):.0f} MB")


def filled() -> str:
    """The table with what stands above it; nothing as long as it is not recorded."""
    found = fair_tables() if there(RECORD) else ""
    return f"{WORDS[RECORD]}\n\n{found}" if found else ""


TABLES: dict[str, Callable[[], str]] = {"fair tables": filled}
