"""Pictures of calibration: a reliability diagram, and error among the most confident samples."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.calibration.metrics import Bins, Confidence, Right, calibration_error
from attar.core.pictures import can_draw, figure

Curves = Mapping[str, tuple[Confidence, Right]]
"""Confidence, and right or wrong, of the same samples, by what gave the confidence."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
TITLES = {
    "reliability": "accuracy against confidence on the test samples",
    "risk-coverage": "wrong predictions among the most confident test samples",
}
GREY = "#8a8f94"
SIDES = ("top", "right")


def reliability_picture(curves: Curves, bins: int = 15) -> bytes | None:
    """Accuracy against confidence in bins of equal width, above the share of samples in each bin; PNG.

    Bins with fewer than ten samples are pale, because their accuracy is mostly chance.

    Args:
        curves: What is compared, such as a classifier before and after it is calibrated.
        bins: Number of bins.

    Returns:
        The picture; None if matplotlib is not installed or there are fewer samples than bins.
    """
    if any(len(confidence) < bins for confidence, _ in curves.values()):
        return None

    def draw(figure: Any) -> None:
        above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
        above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfect")
        for colour, (name, (confidence, right)) in zip(COLOURS, curves.items(), strict=False):
            found = Bins.of(confidence, right, bins)
            there = found.mass > 0
            error = 100 * calibration_error(confidence, right, bins)
            x, y, mass = (value[there].tolist() for value in (found.confidence, found.accuracy, found.mass))
            above.plot(x, y, color=colour, linewidth=1.5, alpha=0.5)
            shades = [1.0 if share * len(confidence) >= 10 else 0.3 for share in mass]
            above.scatter(x, y, s=26, color=colour, alpha=shades, zorder=3, linewidths=0)
            above.plot([], [], "o-", color=colour, markersize=5, label=f"{name}: ECE{bins} {error:.1f} %")
            edges = torch.linspace(0, 1, bins + 1).tolist()
            below.stairs((100 * found.mass).tolist(), edges, color=colour, linewidth=1.5)
        above.set_ylabel("accuracy")
        above.set_aspect("equal")
        above.set_xlim(0, 1.02)
        above.set_ylim(0, 1.02)
        above.legend(frameon=False, fontsize=8, loc="upper left")
        below.set_ylabel("samples, %")
        below.set_xlabel("confidence")
        below.set_ylim(bottom=0)
        for axes in (above, below):
            axes.spines[list(SIDES)].set_visible(False)

    return figure(draw, 4.4, 5.4) if can_draw() else None


def risk_coverage_picture(curves: Curves) -> bytes | None:
    """Share of wrong predictions among the most confident samples, against how many of these are taken; PNG.

    The dotted line is the best order: all right predictions before the wrong ones.

    Args:
        curves: What is compared.

    Returns:
        The picture; None if matplotlib is not installed.
    """

    def draw(figure: Any) -> None:
        axes, largest, drawn = figure.subplots(), 0.0, set[float]()
        for colour, (name, (confidence, right)) in zip(COLOURS, curves.items(), strict=False):
            coverage, risk = risk_coverage(confidence, right)
            area = 100 * float(risk.mean())
            x, y = (100 * coverage).tolist(), (100 * risk).tolist()
            axes.plot(x, y, color=colour, linewidth=1.5, label=f"{name}: mean {area:.1f} %")
            largest = max(largest, float(risk[len(risk) // 10 :].max()))
            if float(risk[-1]) not in drawn:
                _, best = risk_coverage(right.double(), right)
                axes.plot(x, (100 * best).tolist(), color=GREY, linewidth=1, linestyle=":", label="best order")
                drawn.add(float(risk[-1]))
        axes.set_xlabel("samples taken, the most confident first, %")
        axes.set_ylabel("wrong among them, %")
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 110 * largest or 1)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        axes.spines[list(SIDES)].set_visible(False)

    return figure(draw, 4.8, 3.6) if can_draw() else None


def risk_coverage(confidence: Confidence, right: Right) -> tuple[Float[Tensor, " sample"], Float[Tensor, " sample"]]:
    """The share of samples that are taken, and the share of them that are wrong, for one sample to all of them.

    Samples of equal confidence have the mean error of all of them, so that their order does not count.
    """
    _, place, counts = confidence.double().unique(return_inverse=True, return_counts=True)
    wrong = torch.bincount(place, 1 - right.double()) / counts
    order = confidence.double().argsort(descending=True, stable=True)
    taken = torch.arange(1, len(order) + 1, dtype=torch.float64)
    return taken / len(order), wrong[place][order].cumsum(dim=0) / taken
