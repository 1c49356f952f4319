"""Tables of training on little data and of calibration, as recorded. What is not recorded yet is left out."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from results import Facts, recorded, there, times, took

from attar.core.card import table
from attar.core.score import Score, paired

DOCS = Path(__file__).parents[1]
ENSLOSS, IN_IMAGES = "EnsLoss", "ensloss"
PICTURE = "ensloss.svg"
DRAWN = "Accuracy on cats and dogs by epoch, with EnsLoss and its rivals."
CONTROL = "ts, balanced CA loss"
MEASURES = {
    "ece": "ECE15",
    "ece_25": "ECE25",
    "ks": "KS",
    "top_brier": "top-label Brier",
    "auroc": "AUROC",
    "nll": "NLL, nats",
    "accuracy": "accuracy",
}
"""Measures of calibration; all but the likelihood in per cent."""
WORDS = {
    "losses": """### Losses on little data

`bench/ensloss.py`. An MLP of three layers of 128 units; SGD with momentum .9 and a cosine. A seed is a split, a start
and an order, the same for all losses. The step sizes of BCE and of label-smoothed BCE are chosen for each seed on a
tenth of the training rows; the others take 0.01. Intervals hold for all comparisons at once (Bonferroni).""",
    "losses on images": """**Cats and dogs of CIFAR-10** (`bench/ensloss.py --images`): accuracy after the last epoch.
Intervals hold for all comparisons at once. Differences are in pairs of seeds.""",
    "multi-sample dropout": """### Multi-sample dropout

`bench/multi_sample_dropout.py`. A small ConvNet with dropout before its last layer, Adam at 1e-3. A seed is a draw of
the training images and a training. Differences are to one mask at the same p: after as many epochs, and after as much
time.""",
    "calibrators": """## Calibration

`bench/calibration.py`. Each network is a ConvNet that was trained on a draw of 10,000 images of CIFAR-10; calibrators
are fitted to a tenth of these, which it was not trained on. All measures but the NLL are in per cent. Differences in
ECE15 are in pairs of networks: to one temperature (`ts`), and to the control of the correctness-aware calibrator, which
is one temperature by its balanced loss.""",
    "calibrated teachers": """**Does a calibrated teacher teach better?** KD by a teacher of all the images, of
nine tenths of them, and of nine tenths with a temperature that was fitted to the rest. A seed is a draw of the images,
a teacher and a student.""",
}
"""What stands above a table, by its name."""


def _against(seeds: Mapping[str, float], others: Mapping[str, float], comparisons: int) -> str:
    """How far one is above the other over the seeds that both have."""
    both = [seed for seed in seeds if seed in others]
    sides = [[side[seed] for seed in both] for side in (seeds, others)]
    return str(paired(*sides, comparisons)) if both else ""


# --------------------------------------------------------------------------------------------------------------- losses


def losses() -> str:
    """Losses on digit pairs and tables: accuracy, and what EnsLoss is above each."""
    cells = recorded("ensloss").get("small", {})
    comparisons = sum(ENSLOSS in rows and name != ENSLOSS for rows in cells.values() for name in rows)
    lines = []
    for data, rows in cells.items():
        base = rows.get(ENSLOSS, {"accuracy": {}})["accuracy"]
        for name, row in rows.items():
            gap = "" if name == ENSLOSS else _against(base, row["accuracy"], comparisons)
            rates = ", ".join(f"{rate:g}" for rate in sorted(set(row["rate"].values())))
            seeds = row["accuracy"]
            lines.append((data, name, Score.of(list(seeds.values())).number, gap, rates, str(len(seeds))))
    return table(("data", "loss", "accuracy, %", "EnsLoss minus it", "step sizes", "seeds"), lines) if lines else ""


def losses_on_images() -> str:
    """Losses on cats and dogs after the last epoch, and the picture of all epochs if it is drawn."""
    runs = recorded("ensloss").get("images", {}).get("runs", {})
    cells = [(network, way, own) for network, ways in runs.items() for way, own in ways.items()]
    comparisons = max(1, sum(IN_IMAGES in own and name != IN_IMAGES for _, _, own in cells for name in own))
    lines = []
    for network, way, own in cells:
        ends = {name: {seed: run["accuracy"][-1] for seed, run in seeds.items()} for name, seeds in own.items()}
        for name, seeds in ends.items():
            gap = "" if name == IN_IMAGES else _against(ends.get(IN_IMAGES, {}), seeds, comparisons)
            lines.append((network, way, name, Score.of(list(seeds.values())).number, gap, str(len(seeds))))
    if not lines:
        return ""
    drawn = f"\n\n![{DRAWN}]({PICTURE})" if (DOCS / PICTURE).exists() else ""
    return table(("network", "way", "loss", "accuracy, %", "EnsLoss minus it", "seeds"), lines) + drawn


# -------------------------------------------------------------------------------------------------------------- dropout


def multi_sample_dropout() -> str:
    """Errors by epoch, and differences to one mask after as many epochs and after as much time."""
    parts = []
    for data, cells in recorded("multi_sample_dropout")["data"].items():
        lines = [_of_masks(cells, name) for name, row in cells["rows"].items() if row["seeds"]]
        looks = [f"error after {epochs}, %" for epochs in cells["looks"]]
        heads = ("row", *looks, "training loss", "equal epochs", "equal time")
        cost = ", ".join(f"{ratio:.2f} with {masks} masks" for masks, ratio in cells["cost"].items() if masks != "1")
        parts.append(f"**{data}** (a step costs, in steps of one mask: {cost})\n\n{table(heads, lines)}")
    return "\n\n".join(parts)


def _of_masks(cells: Facts, name: str) -> tuple[str, ...]:
    row, looks = cells["rows"][name], cells["looks"]
    masks, share = row["settings"]["dropout_samples"], row["settings"]["dropout"]
    first = cells["rows"].get(f"p {share}, M 1", {"seeds": {}})["seeds"]
    seeds = row["seeds"]
    errors = [[run["error"][str(epochs)] for run in seeds.values()] for epochs in looks]
    loss = statistics.fmean(run["train_loss"][str(looks[-1])] for run in seeds.values())
    both = [seed for seed in seeds if seed in first]
    gaps = ["", ""]
    if masks > 1 and both:
        mine = [seeds[seed]["error"][str(looks[-1])] for seed in both]
        ends = (looks[-1], round(looks[-1] * cells["cost"][str(masks)]))
        gaps = [str(paired(mine, [first[seed]["error"][str(end)] for seed in both])) for end in ends]
    return name, *(Score.of(values).number for values in errors), f"{loss:.4f}", *gaps


# ---------------------------------------------------------------------------------------------------------- calibration


def calibrators() -> str:
    """All calibrators on the test images and on shifted ones."""
    found = recorded("calibration")["parts"].get("networks")
    if not found or not found["seeds"]:
        return ""
    seeds = list(found["seeds"].values())
    columns = [name for name in seeds[0]["none"] if name != "seconds"]
    told = f"{found['source']}; {len(seeds)} networks."
    return "\n\n".join([told, *(f"**{column}**\n\n{_of_column(seeds, column)}" for column in columns)])


def _of_column(seeds: Sequence[Facts], column: str) -> str:
    lines = []
    for name in dict.fromkeys(name for seed in seeds for name in seed):
        known = [seed for seed in seeds if name in seed]
        values = {key: [seed[name][column][key] for seed in known] for key in MEASURES}
        numbers = [Score.of(some, "" if key == "nll" else "%").number for key, some in values.items()]
        gaps = [_over(known, name, rival, column) for rival in ("ts", CONTROL)]
        lines.append((name, *numbers, *gaps))
    return table(("calibrator", *MEASURES.values(), "ECE15 minus ts's", "ECE15 minus the control's"), lines)


def _over(seeds: Sequence[Facts], name: str, rival: str, column: str) -> str:
    """The difference in ECE15 in pairs of networks, minus a rival's."""
    both = [seed for seed in seeds if rival in seed and name != rival]
    values = [[seed[one][column]["ece"] for seed in both] for one in (name, rival)]
    return str(paired(*values)) if both else ""


def calibrated_teachers() -> str:
    """Students of teachers with and without a calibrator."""
    parts = recorded("calibration")["parts"]
    shown = [(name.removeprefix("teachers-"), part) for name, part in parts.items() if name.startswith("teachers-")]
    return "\n\n".join(
        f"**{data}** ({len(part['seeds'])} seeds)\n\n{_of_teachers(list(part['seeds'].values()))}"
        for data, part in shown
        if part["seeds"]
    )


def _of_teachers(seeds: Sequence[Facts]) -> str:
    lines = []
    for name in dict.fromkeys(name for seed in seeds for name in seed):
        known = [seed for seed in seeds if name in seed]
        asked = [seed[name]["teacher"] for seed in known if seed[name]["teacher"] is not None]
        rival = name.removesuffix(", calibrated")
        both = [seed for seed in known if rival in seed and rival != name]
        gap = str(paired(*([seed[one]["student"] for seed in both] for one in (name, rival)))) if both else ""
        mine = Score.of([seed[name]["student"] for seed in known]).number
        lines.append((name, mine, Score.of(asked).number if asked else "", gap))
    return table(("row", "student, %", "teacher, %", "over the same teacher, not calibrated"), lines)


def sentences() -> Iterator[tuple[str, str]]:
    """Figures in running text."""
    if there("multi_sample_dropout"):
        cells = recorded("multi_sample_dropout")["data"].get("digits", {"rows": {}})
        for name in ("p 0.5, M 8", "p 0.8, M 8"):
            if name in cells["rows"]:
                *_, epochs, time = _of_masks(cells, name)
                yield "measured.md", f"{epochs} points of error at p = {name[2:5]}"
                yield "measured.md", f"{time} at p = {name[2:5]}"
    if there("calibration"):
        digits = recorded("calibration")["parts"].get("teachers-digits", {"seeds": {}})["seeds"]
        for degree in (4, 1) if digits else ():
            row = f"KD at {degree}, teacher of nine tenths"
            pairs = [[seed[name]["student"] for seed in digits.values()] for name in (f"{row}, calibrated", row)]
            yield "measured.md", f"{paired(*pairs)} at a temperature of {degree}"


def steps() -> Iterator[tuple[str, ...]]:
    """The fit of one temperature beside rivals, as rows of the table of speed."""
    if not there("temperature"):
        return
    facts = recorded("temperature")
    mine, sizes = facts["attar"]["seconds"], f"{facts['rows']:,} rows of {facts['classes']} classes"
    for rival in (name for name, side in facts.items() if isinstance(side, dict) and "temperature" in side):
        if rival != "attar":
            theirs = facts[rival]["seconds"]
            yield f"one temperature, {sizes}, rival {rival}", took(theirs), took(mine), times(theirs / mine)


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "losses": ("ensloss", losses),
    "losses on images": ("ensloss", losses_on_images),
    "multi-sample dropout": ("multi_sample_dropout", multi_sample_dropout),
    "calibrators": ("calibration", calibrators),
    "calibrated teachers": ("calibration", calibrated_teachers),
}
"""By name, the file of a table and what makes it."""


def filled(name: str) -> Callable[[], str]:
    """What makes a table, with what stands above it; nothing as long as it is not recorded."""
    file, made = TABLES[name]

    def whole() -> str:
        found = made() if there(file) else ""
        return f"{WORDS[name]}\n\n{found}" if found else ""

    return whole


# ------------------------------------------------------------------------------------------------------------- pictures


def curves() -> dict[str, dict[str, list[list[float]]]]:
    """For the picture: by network and way, the accuracy of each loss by seed and epoch."""
    runs: dict[str, Any] = recorded("ensloss").get("images", {}).get("runs", {}) if there("ensloss") else {}
    return {
        f"{network}, {way}": {name: [run["accuracy"] for run in seeds.values()] for name, seeds in own.items() if seeds}
        for network, ways in runs.items()
        for way, own in ways.items()
    }
