"""Draw the pictures of README and the docs from the recorded tables on digits.

    python docs/make_plots.py

Writes `docs/demo.svg` (one image per class in three versions, which are made anew here) and `docs/accuracy_bytes.svg`.
"""

import json
import statistics
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot

import attar
from attar.core.runtime import Engine
from attar.core.score import Score

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "bench" / "results"
STYLE = {"hard": ("o", "#1b6ca8"), "soft": ("s", "#c8553d"), "taught": ("^", "#588157")}
WORDS = {"hard": "classes", "soft": "one soft label an image", "taught": "what a network says of every view"}


def main() -> None:
    """Write both pictures."""
    matplotlib.rcParams.update({"font.size": 8, "svg.hashsalt": "attar", "svg.fonttype": "none"})
    draw_demo()
    draw_accuracy()


def draw_demo() -> None:
    """Write docs/demo.svg: one image per class, each version with its score in the demo's table."""
    facts = json.loads((RESULTS / "demo.json").read_text())
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
    facts = json.loads((RESULTS / "digits_all.json").read_text())
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
