"""Measure what a classifier does, read from its folder: accuracy, F1, calibration, geometry, the bits of subclasses."""

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.classifiers.artefact import DistilledClassifier
from attar.classifiers.calibration.evaluation import (
    USUAL,
    Column,
    Found,
    beyond_named,
    cell_of,
    columns,
    curve,
    drawn,
    measures_of,
)
from attar.classifiers.calibration.metrics import CalibrationReport
from attar.classifiers.calibration.pictures import Curves
from attar.classifiers.calibration.shifts import Name
from attar.classifiers.diagnosis import Diagnosis, diagnose
from attar.classifiers.scoring import Scoring
from attar.classifiers.subclasses import Grouping, information
from attar.classifiers.teacher import class_logits_of
from attar.classifiers.watched import Watched
from attar.core.cell import Beside, Cell, Measure
from attar.core.errors import InputError
from attar.core.evaluation import Evaluation, Row
from attar.core.rows import rows_of
from attar.core.runtime import Runtime
from attar.core.score import Better, Score, kept
from attar.images.networks.outputs import logits_in
from attar.images.sources import ImageSource
from attar.images.splits import own_split, same_classes

MOST_DIAGNOSED = 5000
"""Number of training images on which the geometry is measured."""
GEOMETRY: dict[str, tuple[str, str, Better]] = {
    "within": ("NC1, within / between classes", "", "lower"),
    "lengths": ("NC2, spread of the means' lengths", "", "lower"),
    "angles": ("NC2, cosines off by", "", "lower"),
    "duality": ("NC3, means and weights apart", "", "lower"),
    "disagreement": ("NC4, nearest mean differs", "%", "lower"),
    "rank": ("effective rank of the classifier", "", "higher"),
}
"""The quantities of a `Diagnosis` in words, with the unit and the direction that is better."""


@dataclass(frozen=True)
class Measurement(Evaluation):
    """What was measured, with pictures of it."""

    drawn: tuple[tuple[Any, dict[str, bytes]], ...] = field(default=(), repr=False, compare=False)
    """Each classifier with its pictures by name."""


@dataclass(frozen=True)
class Scored:
    """What was measured of one classifier."""

    found: Found
    """On the test images."""
    further: dict[str, tuple[CalibrationReport, Int[Tensor, " sample"]]]
    """The calibration in every further column, with the labels."""
    drawn: dict[str, bytes]


def measure(students: Sequence[Any], source: ImageSource, runtime: Runtime, how: Scoring | None = None) -> Measurement:
    """Test classifiers on the test images, and measure their geometry on the training images.

    Args:
        students: Classifiers by one or several methods. Those that differ only in their seed make one row.
        source: The data.
        runtime: The machine.
        how: What is measured beside that.

    Raises:
        InputError: There is no classifier, or one has other classes or images.
    """
    start, how = time.perf_counter(), how or Scoring()
    for student in students:
        shown = student.seen(source)
        if not same_classes(student, shown):
            raise InputError(
                f"the student has {len(student.classes)} classes of {student.shape} {student.things}, but "
                f"{source.name} has {len(shown.classes)} of {shown.shape}."
            )
    of_images = source.things == "images"
    _check_things(source, how)
    names = how.shifts or (USUAL if of_images and any(is_calibrated(student) for student in students) else ())
    shifted: list[Name] = [name for name in names if name != "none"]
    beyond = None if how.beyond is None else beyond_named(how.beyond, students[0])
    rows, pictures, who = [], [], "student" if of_images else "classifier"
    for label, members in rows_of(students):
        scored: list[Scored] = []
        for number, student in enumerate(members, start=1):
            scored.append(_scored(student, student.seen(source), runtime, shifted, beyond))
            pictures.append((student, scored[-1].drawn))
            told = f"{scored[-1].found['accuracy'][0]:.1f} %"
            runtime.say(f"{label}: {who} {number} of {len(members)}, {told}")
        small, large = members[0].origin.student, members[0].origin.teacher
        sizes = {"count": small.parameters, "full_count": large and large.parameters}
        further = [
            cell_of(told, [one.further[told][0] for one in scored], labels)
            for told, (_, labels) in scored[0].further.items()
        ]
        cells = [*_cells(members, [one.found for one in scored], source, runtime), *further]
        rows.append(Row.of(label, members, cells, **sizes))
    seconds = round(time.perf_counter() - start, 3)
    return Measurement(tuple(rows), "parameters", f"{who}s", seconds=seconds, drawn=tuple(pictures))


def is_calibrated(student: Any) -> bool:
    """Whether a classifier has a calibrator."""
    return not isinstance(student, DistilledClassifier)


def _check_things(source: ImageSource, how: Scoring) -> None:
    """Check that nothing is asked of rows that only images have.

    Raises:
        InputError: It is.
    """
    asked = next((name for name in ("shifts", "beyond") if getattr(how, name)), "")
    if asked and source.things != "images":
        raise InputError(f"{asked} is for images, but {source.name} has {source.things}. Do not set it.")


def _cells(students: Sequence[Any], found: Sequence[Found], source: ImageSource, runtime: Runtime) -> Iterator[Cell]:
    """The accuracy of students that differ only in their seed; where an encoder says so, rivals and more columns."""
    encoder = students[0].encoder
    rivals = encoder.rivals(_own(students[0], source, runtime), students[0], runtime) if encoder else {}
    apart = [name for name in (encoder.columns if encoder else ()) if all(name in one for one in found)]
    rest = [{name: value for name, value in one.items() if name not in apart} for one in found]
    cell = _cell(students, rest, source)
    yield replace(cell, beside=(*cell.beside, *_beside(rivals, "accuracy")))
    for name in apart:
        _, unit, better = found[0][name]
        one = Measure.of([[each[name][0]] for each in found], unit, better)
        yield Cell(one.score, one.values, column=name, beside=_beside(rivals, name))


def _beside(rivals: Mapping[str, Found], name: str) -> tuple[Beside, ...]:
    """The rivals' values of one measure."""
    return tuple(Beside(who, Score(*measures[name])) for who, measures in rivals.items() if name in measures)


def _cell(students: Sequence[Any], found: Sequence[Found], source: ImageSource) -> Cell:
    """The accuracy of students that differ only in their seed, with the other measures and their teachers."""
    together = {
        name: Measure.of([[one[name][0]] for one in found], unit, better)
        for name, (_, unit, better) in found[0].items()
        if all(name in one for one in found)
    }
    accuracies = together.pop("accuracy")
    teachers = [student.scores.get("teacher") for student in students]
    known = [value for value in teachers if value is not None]
    return Cell(
        accuracies.score,
        accuracies.values,
        column="accuracy",
        full=Score.of(known) if known else None,
        whole="its teacher",
        chance=100 * float(torch.bincount(source.test.labels).max()) / len(source.test),
        kept_by_set=tuple(
            None if teacher is None else kept(Score(student), Score(teacher))
            for student, teacher in zip(accuracies.by_set, teachers, strict=True)
        ),
        further=together,
    )


def _scored(
    student: Any, source: ImageSource, runtime: Runtime, shifted: Sequence[Name], beyond: ImageSource | None
) -> Scored:
    """Accuracy and calibration of one classifier, the geometry of its features, and the bits of its subclasses."""
    source = _own(student, source, runtime)
    student = replace(student, network=copy.deepcopy(student.network).to(runtime.device))
    known = student.labels_are_subclasses
    logits, labels = class_logits_of(student.network, source, runtime, student.group, known=known)
    rows = torch.arange(len(source.train))[:: -(-len(source.train) // MOST_DIAGNOSED)]
    labelled = [(source.inputs(part, runtime.device), source.targets[part]) for part in rows.split(512)]
    macro, f1, auc = detection(logits, labels)
    accuracy = 100 * int((logits.argmax(dim=1) == labels).sum()) / len(labels)
    found: dict[str, tuple[float | None, str, Better]] = {
        "accuracy": (accuracy, "%", "higher"),
        "macro F1": (macro, "%", "higher"),
        "F1 of the second class": (f1, "%", "higher"),
        "AUC of the second class": (auc, "%", "higher"),
        **measures_of(CalibrationReport.of(logits, labels)),
    }
    if student.encoder is not None:
        del found["AUC of the second class"]  # which its own measures have by another name
        found |= student.encoder.measured(source, student.classes, lambda images: _answer(student, images, runtime))
    if student.group is not None:
        with torch.no_grad():
            said = torch.cat([logits_in(student.network(images)).cpu() for images, _ in labelled])
        told = information(said, Grouping(student.group), labels=source.targets[rows] if known else None)
        found["bits that subclasses add a sample"] = (told.soft, "bits", "higher")
        found["bits that their labels add"] = (told.label, "bits", "higher")
    geometry = _geometry(student, labelled)
    for name, (meaning, unit, better) in GEOMETRY.items() if geometry else ():
        found[meaning] = (getattr(geometry, name), unit, better)
    kept = {
        name: (value, unit, better)
        for name, (value, unit, better) in found.items()
        if value is not None and math.isfinite(value)
    }
    further = {}
    for column in columns(student, source, shifted, beyond):
        shown, classes = column.logits(student, runtime)
        further[column.told] = CalibrationReport.of(shown, classes), classes
    return Scored(kept, further, drawn(_curves(student, source, runtime, (logits, labels))))


def _own(student: Any, source: ImageSource, runtime: Runtime) -> ImageSource:
    """The source in the split and with the transform of a classifier."""
    return replace(own_split(student, source, runtime), transform=student.transform, prepared=None)


def _answer(student: Any, images: Tensor, runtime: Runtime) -> Float[Tensor, "sample classes"]:
    """The class logits for network input, on the CPU."""
    found: Tensor = student.logits(images.to(runtime.device))
    return found.float().cpu()


def _curves(student: Any, source: ImageSource, runtime: Runtime, said: tuple[Tensor, Tensor]) -> Curves:
    """Confidence and right or wrong on the test images; of a calibrated classifier also before it was calibrated."""
    if not is_calibrated(student):
        return {"confidence": curve(*said)}
    before = Column("", source).logits(student, runtime, student.network.network)
    return {"before": curve(*before), "after": curve(*said)}


def detection(
    logits: Float[Tensor, "sample classes"], labels: Int[Tensor, " sample"]
) -> tuple[float, float | None, float | None]:
    """Macro F1. For two classes also F1 and AUC of the second, by custom the rare one (MHIST: SSA). All in per cent."""
    from sklearn.metrics import roc_auc_score

    macro, f1 = f1_scores(logits, labels)
    if f1 is None or len(labels.unique()) < 2:
        return macro, f1, None
    margin = (logits[:, 1] - logits[:, 0]).numpy()
    return macro, f1, 100 * float(roc_auc_score(labels.numpy(), margin))


def f1_scores(logits: Float[Tensor, "sample classes"], labels: Int[Tensor, " sample"]) -> tuple[float, float | None]:
    """The mean of F1 over classes. For two classes also the F1 of the second. Both in per cent."""
    from sklearn.metrics import f1_score

    found, right = logits.argmax(dim=1).numpy(), labels.numpy()
    macro = 100 * float(f1_score(right, found, average="macro", zero_division=0.0))
    second = 100 * float(f1_score(right, found, zero_division=0.0)) if logits.shape[1] == 2 else None
    return macro, second


def _geometry(student: Any, labelled: Any) -> Diagnosis | None:
    """The geometry for the labels' classes; None if no linear layer gives the logits.

    If the logits are subclasses that the network found, it is for its predicted ones.
    """
    with torch.no_grad():
        if not Watched(student.network)(labelled[0][0][:1]).embedding.shape[1]:
            return None
    if student.labels_are_subclasses:
        return diagnose(student.network, labelled, len(student.classes))
    with torch.no_grad():
        answered = [(images, logits_in(student.network(images)).argmax(dim=1).cpu()) for images, _ in labelled]
    found = torch.cat([labels for _, labels in answered]).unique()
    places = torch.full((int(found.max()) + 1,), -1).scatter(0, found, torch.arange(len(found)))
    return diagnose(student.network, [(images, places[labels]) for images, labels in answered], len(found), rows=found)
