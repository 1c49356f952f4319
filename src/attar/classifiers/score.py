"""What a student keeps, read anew from its folder: accuracy, geometry, and the bits of subclasses."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from attar.classifiers.artefact import DistilledClassifier
from attar.classifiers.diagnosis import Diagnosis, diagnose
from attar.classifiers.subclasses import Grouping, soft_bits
from attar.classifiers.teacher import accuracy_on_classes
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
    diagnosis: Diagnosis
    bits: float | None
    """Bits a sample that its answers about subclasses say beyond those about classes."""


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
            lines += [f"{student.name}: {student.accuracy:.1f} %{kept}", f"  {student.diagnosis}{bits}"]
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
    accuracy = accuracy_on_classes(student.network, source, runtime, student.group, known=student.labels_are_subclasses)
    rows = torch.arange(len(source.train))[:: -(-len(source.train) // MOST_DIAGNOSED)]
    labelled = [(source.inputs(part, runtime.device), source.targets[part]) for part in rows.split(512)]
    bits = None
    if student.group is not None:
        with torch.no_grad():
            said = torch.cat([student.network(images).cpu() for images, _ in labelled])
        bits = soft_bits(said, Grouping(student.group))
    geometry = _geometry(student, labelled)
    return StudentScore(student.origin.method, accuracy, student.scores.get("teacher"), geometry, bits)


def _geometry(student: DistilledClassifier, labelled: Any) -> Diagnosis:
    """Of the labels' classes; where the network's logits are subclasses that it found, of those it answers."""
    if student.labels_are_subclasses:
        return diagnose(student.network, labelled, len(student.classes))
    with torch.no_grad():
        answered = [(images, student.network(images).argmax(dim=1).cpu()) for images, _ in labelled]
    found = torch.cat([labels for _, labels in answered]).unique()
    places = torch.full((int(found.max()) + 1,), -1).scatter(0, found, torch.arange(len(found)))
    return diagnose(student.network, [(images, places[labels]) for images, labels in answered], len(found), rows=found)
