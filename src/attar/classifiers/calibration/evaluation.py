"""Calibration of classifiers as `attar evaluate` measures it: on the test images, on shifted ones, on others."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.classifiers.calibration.metrics import CalibrationReport, probabilities_of, top
from attar.classifiers.calibration.pictures import Curves, reliability_picture, risk_coverage_picture
from attar.classifiers.calibration.shifts import Name, Pixels, Shift, shifts
from attar.classifiers.subclasses import Grouping
from attar.core.cell import Cell, Measure
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.score import Better
from attar.core.seeds import derived_seed
from attar.images import layout
from attar.images.data.pixels import Split, joined
from attar.images.networks.outputs import logits_in
from attar.images.sources import ImageSource, load
from attar.images.splits import same_classes

Found = dict[str, tuple[float, str, Better]]
"""Measured values of one classifier by name, each with its unit and the direction that is better."""
USUAL: tuple[Name, ...] = ("rotate", "noise")
"""Shifts of a classifier that is calibrated."""


@dataclass(frozen=True)
class Column:
    """Images on which classifiers are tested beside the test images, and what they are called."""

    told: str
    source: ImageSource
    """Of whose test images."""
    shift: Shift | None = None

    def logits(
        self, student: Any, runtime: Runtime, network: nn.Module | None = None
    ) -> tuple[Float[Tensor, "sample classes"], Int[Tensor, " sample"]]:
        """The class logits of a classifier, and the labels. Shifts draw the same for each classifier.

        Args:
            student: The classifier.
            runtime: The machine.
            network: Another network with its outputs, in place of its own.
        """
        generator = torch.Generator().manual_seed(derived_seed(0, self.told))
        grouping = None if student.group is None else Grouping(student.group)
        split, parts = self.source.test, []
        network = layout.place(student.network if network is None else network, runtime).eval()
        for rows in torch.arange(len(split)).split(512):
            pixels = split.pixels[rows]
            if self.shift is not None:
                pixels = self.shift(in_unit(pixels), generator)
            with torch.no_grad():
                logits = logits_in(network(student.transform.forward(pixels.to(runtime.device))))
            parts.append((logits if grouping is None else grouping.class_logits(logits)).float().cpu())
        known = grouping is not None and student.labels_are_subclasses
        return torch.cat(parts), grouping.labels(split.labels) if known and grouping else split.labels


def in_unit(pixels: Tensor) -> Pixels:
    """Pixels as values in [0, 1]."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()


def columns(student: Any, source: ImageSource, names: Sequence[Name], beyond: ImageSource | None) -> Iterator[Column]:
    """The columns of a classifier beside that of its test images.

    Args:
        student: The classifier.
        source: The data in the split and order of classes of the classifier.
        names: The shifts of the test images.
        beyond: Data of one's own, of which all images are tested.
    """
    for told, shift in shifts(names).items():
        yield Column(told, source, shift)
    if beyond is not None:
        same = beyond if beyond.classes == student.classes else beyond.ordered_as(student.classes)
        yield Column(same.name, same)


def beyond_named(data: Any, student: Any) -> ImageSource:
    """Data of one's own with the classes of a classifier, as images of its size; all of them are test images.

    Args:
        data: A folder or whatever else names images, or a source.
        student: The classifier.

    Raises:
        InputError: It has other classes, or other images.
    """
    _, height, width = student.shape
    source = data if isinstance(data, ImageSource) else load(data, size=height if height == width else None)
    if not same_classes(student, source):
        raise InputError(
            f"{source.name} has {len(source.classes)} classes of {source.shape}, but the classifier has "
            f"{len(student.classes)} of {student.shape}. Give images of the same classes."
        )
    return source if source.rows is None else whole(source)


def whole(source: ImageSource) -> ImageSource:
    """A source that came without a split, with all its images for testing."""
    train, test = source.train, source.test
    pixels = joined(train.pixels, test.pixels, torch.arange(len(train) + len(test)))
    split = Split(pixels, torch.cat([train.labels, test.labels]))
    return replace(source, test=split, rows=None, prepared=None)


def measures_of(report: CalibrationReport) -> Found:
    """The measures beside an accuracy: in per cent, but the likelihood in nats."""
    found: Found = {
        "ECE, 15 bins": (100 * report.ece, "%", "lower"),
        "ECE of a perfect model of as many samples": (100 * report.floor, "%", "lower"),
        "KS error": (100 * report.ks, "%", "lower"),
        "NLL": (report.nll, "nats", "lower"),
        "Brier score": (report.brier, "", "lower"),
        "AUROC of right against wrong": (100 * report.auroc, "%", "higher"),
    }
    return {name: value for name, value in found.items() if math.isfinite(value[0])}


def cell_of(told: str, reports: Sequence[CalibrationReport], labels: Int[Tensor, " sample"]) -> Cell:
    """The accuracy of classifiers that differ only in their seed, in one of the further columns."""
    accuracy = Measure.of([[100 * report.accuracy] for report in reports])
    found = [measures_of(report) for report in reports]
    further = {
        name: Measure.of([[one[name][0]] for one in found], unit, better)
        for name, (_, unit, better) in found[0].items()
        if all(name in one for one in found)
    }
    chance = 100 * float(torch.bincount(labels).max()) / len(labels)
    return Cell(accuracy.score, accuracy.values, column=f"accuracy, {told}", chance=chance, further=further)


def drawn(curves: Curves) -> dict[str, bytes]:
    """The pictures of an evaluation, as PNG by name; none if matplotlib is not installed."""
    found = {"reliability": reliability_picture(curves), "risk-coverage": risk_coverage_picture(curves)}
    return {name: png for name, png in found.items() if png is not None}


def curve(logits: Float[Tensor, "sample classes"], labels: Int[Tensor, " sample"]) -> tuple[Tensor, Tensor]:
    """Confidence, and right or wrong."""
    return top(probabilities_of(logits), labels)
