"""Draw the pictures of README and the docs from the recorded tables.

    python docs/make_plots.py                 # all of them
    python docs/make_plots.py ensloss fair    # those that are named

Writes `docs/demo.svg` (one image per class in three versions, which are made anew here), `docs/accuracy_bytes.svg`,
`docs/ensloss.svg` (accuracy by epoch beside other losses), and `docs/fair_DATA.png` (AUROC against DPD over β). What is
not recorded is not drawn.
"""

import json
import statistics
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot

import attar
from attar.core.runtime import Engine
from attar.core.score import Score

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

import fair  # noqa: E402
import little  # noqa: E402
from results import recorded, there  # noqa: E402

RESULTS = DOCS.parent / "bench" / "results"
STYLE = {"hard": ("o", "#1b6ca8"), "soft": ("s", "#c8553d"), "taught": ("^", "#588157")}
WORDS = {"hard": "classes", "soft": "one soft label an image", "taught": "what a network says of every view"}


LOSSES = {
    "bce": ("BCE", "#777777", "-"),
    "hinge": ("hinge", "#aaaaaa", "--"),
    "log-hinge": ("Log-Hinge", "#0072b2", "-"),
    "ensloss": ("EnsLoss", "#d55e00", "-"),
}
"""Losses of the picture of EnsLoss, each with its name, colour and line."""


def main() -> None:
    """Write the pictures."""
    matplotlib.rcParams.update({"font.size": 8, "svg.hashsalt": "attar", "svg.fonttype": "none"})
    pictures = {"demo": draw_demo, "accuracy": draw_accuracy, "ensloss": draw_losses, "fair": draw_fair}
    for name in sys.argv[1:] or pictures:
        pictures[name]()


def draw_demo() -> None:
    """Write docs/demo.svg: one image per class, each version with its score in the demo's table."""
    facts = json.loads((RESULTS / "demo.json").read_text(encoding="utf-8"))
    makers = {
        "random": ("real images, drawn at random", attar.Random(ipc=1)),
        "class mean": ("the mean of each class", attar.ClassMean(ipc=1)),
        "DM": ("learned by DM", attar.DM(ipc=1, steps=40)),
    }
    figure, panels = pyplot.subplots(len(makers), 1, figsize=(9.6, 2.4))
    for panel, (label, (words, method)) in zip(panels, makers.items(), strict=True):
        small = attar.condense("digits", method, engine=Engine(quiet=True))
        gap = np.full((8, 1), 255, dtype=np.uint8)
        strip = np.hstack([side for image in small.pixels[..., 0] for side in (image, gap)])[:, :-1]
        cell = next(cell for cell in facts["cells"] if (cell["label"], cell["ipc"]) == (label, 1))
        score = Score.of([value for values in cell["values"] for value in values])
        panel.imshow(strip.repeat(12, axis=0).repeat(12, axis=1), cmap="gray", vmin=0, vmax=255)
        panel.set_axis_off()
        panel.text(-0.02, 0.5, words, transform=panel.transAxes, ha="right", va="center", fontsize=10)
        panel.text(1.02, 0.5, f"{score.number} %", transform=panel.transAxes, ha="left", va="center", fontsize=12)
    full = Score(**facts["full"])
    what = "Ten images instead of 1,297, and the test accuracy of networks that were trained on them"
    figure.suptitle(f"{what} (all images: {full.number} %)", fontsize=10)
    figure.subplots_adjust(left=0.24, right=0.86, top=0.86, bottom=0.02, hspace=0.16)
    figure.savefig(DOCS / "demo.svg", metadata={"Date": None}, facecolor="white")


def draw_accuracy() -> None:
    """Write docs/accuracy_bytes.svg."""
    facts = json.loads((RESULTS / "digits_all.json").read_text(encoding="utf-8"))
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 5.2), sharey=False)
    for panel, ipc in zip(panels, (1, 10), strict=True):
        cells = [cell for cell in facts["cells"] if cell["ipc"] == ipc]
        points = [(cell["bytes"], mean_of(cell), cell) for cell in cells]
        for kind, (marker, colour) in STYLE.items():
            here = [(size, score) for size, score, cell in points if cell["labels"] == kind]
            panel.scatter(*zip(*here, strict=True), marker=marker, color=colour, s=26, label=WORDS[kind], zorder=3)
        annotate(panel, points)
        panel.axhline(facts["full"]["value"], color="#999999", linewidth=0.8, linestyle="--")
        panel.text(
            0.01,
            facts["full"]["value"],
            "all the data (93,384 bytes)",
            color="#777777",
            va="bottom",
            transform=panel.get_yaxis_transform(),
        )
        panel.set(
            xscale="log",
            xlabel="bytes that training needs, labels and teachers included",
            title=f"{ipc} image{'s' if ipc > 1 else ''} per class",
        )
        panel.set_xlim(min(point[0] for point in points) / 16, max(point[0] for point in points) * 2)
        panel.margins(y=0.08)
        panel.grid(color="#eeeeee", zorder=0)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[0].set_ylabel("test accuracy, %")
    panels[0].legend(title="networks learn", frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(DOCS / "accuracy_bytes.svg", metadata={"Date": None})


def draw_losses() -> None:
    """Write docs/ensloss.svg: accuracy by epoch on cats and dogs, a panel for each network and way of training."""
    curves = little.curves()
    if not curves:
        return
    across = min(3, len(curves))
    down = -(-len(curves) // across)
    figure, panels = pyplot.subplots(down, across, figsize=(3.4 * across, 2.5 * down), squeeze=False, sharey=True)
    for panel in panels.flat[len(curves) :]:
        panel.set_visible(False)
    for panel, (title, losses) in zip(panels.flat, curves.items(), strict=False):
        for name, (word, colour, line) in LOSSES.items():
            seeds = losses.get(name)
            if not seeds:
                continue
            epochs = range(1, min(map(len, seeds)) + 1)
            means = [statistics.fmean(seed[epoch - 1] for seed in seeds) for epoch in epochs]
            panel.plot(epochs, means, color=colour, linestyle=line, linewidth=1.1, label=word)
        panel.set_title(title)
        panel.set_xlabel("epoch")
        panel.grid(color="#eeeeee", zorder=0)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    for row in panels:
        row[0].set_ylabel("test accuracy, %")
    panels.flat[0].legend(frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(DOCS / little.PICTURE, metadata={"Date": None})


def draw_fair() -> None:
    """Write docs/fair_DATA.png: AUROC against DPD over β, with rivals and real rows."""
    from attar.tables.pictures import worth_against_gap

    for data in recorded(fair.RECORD)["data"] if there(fair.RECORD) else ():
        curves, rivals = fair.points(data)
        drawn = worth_against_gap(curves, rivals, title=data) if len(next(iter(curves.values()), ())) > 1 else None
        if drawn is not None:
            (DOCS / fair.picture_of(data)).write_bytes(drawn)


def mean_of(cell: dict) -> float:
    """Mean accuracy of a cell."""
    return statistics.fmean(value for values in cell["values"] for value in values)


def annotate(panel: pyplot.Axes, points: list) -> None:
    """Names beside the points: those of soft labels to the right, others to the left, none on another."""
    columns: dict[tuple, list] = {}
    for size, score, cell in points:
        columns.setdefault((cell["labels"], round(size, -2)), []).append((score, size, cell))
    scores = [score for _, score, _ in points]
    gap = (max(scores) - min(scores)) / 34
    for (kind, _), column in columns.items():
        column.sort(key=lambda entry: entry[0])
        right = kind == "soft"
        for place, (score, size, cell) in zip(spread([entry[0] for entry in column], gap), column, strict=True):
            panel.annotate(
                cell["label"],
                (size, score),
                (size * (1.22 if right else 1 / 1.22), place),
                va="center",
                ha="left" if right else "right",
                color=STYLE[kind][1],
                fontsize=7,
                arrowprops={"arrowstyle": "-", "color": STYLE[kind][1], "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2},
            )


def spread(places: list[float], gap: float) -> list[float]:
    """Rising places moved as little as need be until none is nearer than the gap to the next."""
    groups: list[tuple[float, int]] = []  # centre, number
    for place in places:
        groups.append((place, 1))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            (first, many), (second, more) = groups[-2:]
            groups[-2:] = [((first * many + second * more) / (many + more), many + more)]
    return [centre + gap * (index - (many - 1) / 2) for centre, many in groups for index in range(many)]


if __name__ == "__main__":
    main()
