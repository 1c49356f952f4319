"""What a student keeps, read anew from its folder: accuracy, F1, geometry, and the bits of subclasses."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.classifiers.artefact import DistilledClassifier
from attar.classifiers.diagnosis import Diagnosis, diagnose
from attar.classifiers.subclasses import Grouping, information
from attar.classifiers.teacher import class_logits_of
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score
from attar.images.sources import ImageSource

MOST_DIAGNOSED = 5000
"""Training images on which the geometry is read."""


@dataclass(frozen=True)
class StudentScore:
    """One student on the test images."""

    name: str
    accuracy: float
    teacher: float | None
    """The teacher's, as it was measured when the student was made."""
    macro_f1: float
    """The mean over classes of F1, in per cent."""
    f1: float | None
    """Of two classes: F1 of the second one, in per cent."""
    auc: float | None
    """Of two classes: the area under the curve of its probability, in per cent."""
    diagnosis: Diagnosis
    bits: float | None
    """Bits a sample that its answers about subclasses say beyond those about classes."""
    label_bits: float | None
    """Bits a sample that the labels say so, where they are subclasses."""


@dataclass(frozen=True)
class Evaluation:
    """Students by one method with different seeds, or by several."""

    students: tuple[StudentScore, ...]

    @property
    def score(self) -> Score:
        """Their mean accuracy."""
        return Score.of([student.accuracy for student in self.students])

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values."""
        return [asdict(student) for student in self.students]

    def __str__(self) -> str:
        lines = []
        for student in self.students:
            kept = f", {100 * student.accuracy / student.teacher:.1f} % of its teacher" if student.teacher else ""
            bits = "" if student.bits is None else f"\n  subclasses say {student.bits:.3f} bits more a sample"
            bits += "" if student.label_bits is None else f", their labels {student.label_bits:.3f}"
            second = "" if student.f1 is None else f", of the second class {student.f1:.1f} %, AUC {student.auc:.1f} %"
            told = f"  macro F1 {student.macro_f1:.1f} %{second}"
            lines += [f"{student.name}: {student.accuracy:.1f} %{kept}", told, f"  {student.diagnosis}{bits}"]
        return "\n".join(lines + ([f"mean: {self.score}"] if len(self.students) > 1 else []))


def evaluate(
    students: Sequence[DistilledClassifier], source: ImageSource, *, engine: Engine | None = None, **others: Any
) -> Evaluation:
    """Test students on the real test images, and read their geometry on the training images.

    Args:
        students: By one method, or by several.
        source: The data.
        engine: How to use the machine.
        others: Settings of sets' evaluation, which students have no use for.

    Raises:
        InputError: A student of other classes or images.
    """
    runtime = Runtime(engine)
    return Evaluation(tuple(_scored(student, source, runtime) for student in students))


def _scored(student: DistilledClassifier, source: ImageSource, runtime: Runtime) -> StudentScore:
    if student.classes != source.classes or student.shape != source.shape:
        raise InputError(
            f"the student knows {len(student.classes)} classes of {student.shape} images, but {source.name} has "
            f"{len(source.classes)} of {source.shape}."
        )
    source = replace(source, transform=student.transform, prepared=None)
    known = student.labels_are_subclasses
    logits, labels = class_logits_of(student.network, source, runtime, student.group, known=known)
    rows = torch.arange(len(source.train))[:: -(-len(source.train) // MOST_DIAGNOSED)]
    labelled = [(source.inputs(part, runtime.device), source.targets[part]) for part in rows.split(512)]
    bits = label_bits = None
    if student.group is not None:
        with torch.no_grad():
            said = torch.cat([student.network(images).cpu() for images, _ in labelled])
        told = information(said, Grouping(student.group), labels=source.targets[rows] if known else None)
        bits, label_bits = told.soft, told.label
    macro, f1, auc = detection(logits, labels)
    return StudentScore(
        name=student.origin.method,
        accuracy=100 * int((logits.argmax(dim=1) == labels).sum()) / len(labels),
        teacher=student.scores.get("teacher"),
        macro_f1=macro,
        f1=f1,
        auc=auc,
        diagnosis=_geometry(student, labelled),
        bits=bits,
        label_bits=label_bits,
    )


def detection(
    logits: Float[Tensor, "sample classes"], labels: Int[Tensor, " sample"]
) -> tuple[float, float | None, float | None]:
    """Macro F1; of two classes also F1 and AUC of the second, the rare one by custom (MHIST: SSA). All in per cent."""
    from sklearn.metrics import roc_auc_score

    macro, f1 = f1_scores(logits, labels)
    if f1 is None or len(labels.unique()) < 2:
        return macro, f1, None
    margin = (logits[:, 1] - logits[:, 0]).numpy()
    return macro, f1, 100 * float(roc_auc_score(labels.numpy(), margin))


def f1_scores(logits: Float[Tensor, "sample classes"], labels: Int[Tensor, " sample"]) -> tuple[float, float | None]:
    """The mean over classes of F1; of two classes also that of the second. Both in per cent."""
    from sklearn.metrics import f1_score

    found, right = logits.argmax(dim=1).numpy(), labels.numpy()
    macro = 100 * float(f1_score(right, found, average="macro", zero_division=0.0))
    second = 100 * float(f1_score(right, found, zero_division=0.0)) if logits.shape[1] == 2 else None
    return macro, second


def _geometry(student: DistilledClassifier, labelled: Any) -> Diagnosis:
    """Of the labels' classes; where the network's logits are subclasses that it found, of those it answers."""
    if student.labels_are_subclasses:
        return diagnose(student.network, labelled, len(student.classes))
    with torch.no_grad():
        answered = [(images, student.network(images).argmax(dim=1).cpu()) for images, _ in labelled]
    found = torch.cat([labels for _, labels in answered]).unique()
    places = torch.full((int(found.max()) + 1,), -1).scatter(0, found, torch.arange(len(found)))
    return diagnose(student.network, [(images, places[labels]) for images, labels in answered], len(found), rows=found)
