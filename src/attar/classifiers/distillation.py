"""What all distillation of classifiers has in common: a student, a teacher, and the term of the labels.

The loop is `attar.classifiers.fitting`. A method adds its terms, and the modules that it trains beside the student.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Self

from jaxtyping import Float
from torch import Tensor

from attar.classifiers.fitting import Fitting
from attar.classifiers.labelled import label_loss
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.classifiers.schedules import teacher_of
from attar.classifiers.watched import Answers
from attar.core.errors import InputError
from attar.core.losses import Loss
from attar.core.presets import published
from attar.core.settings import Range, Role


@dataclass(frozen=True, kw_only=True)
class Distillation(Fitting):
    """Settings of the methods that distill a classifier into a student."""

    student: str = "convnet:norm=batch,width=16"
    """The student. Name of a network (convnet:norm=batch,width=16, resnet18, transformers:FOLDER)."""
    label_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the cross-entropy with the labels."""
    label_loss: Annotated[Loss, Role()] = field(default_factory=Loss)
    """Loss of the labels, in place of the cross-entropy."""
    smoothing: Annotated[float, Range(0, 1)] = 0.0
    """Share of each label that is spread evenly over all classes (label smoothing)."""
    student_layers: tuple[str, ...] = ()  # type: ignore[misc]
    """Names of the student's modules whose outputs are compared, from shallow to deep. input:NAME takes the input of a
    module, for maps before an activation. Default: the stages of attar's own networks."""
    teacher_layers: tuple[str, ...] = ()  # type: ignore[misc]
    """Names of the teacher's modules, as many as --student-layers has. Default: the stages of attar's own networks."""

    name = "distillation"
    needs_teacher = True
    takes_label_loss: ClassVar[bool] = True
    """Whether another loss can stand in for the cross-entropy of the labels."""
    teacher_of = staticmethod(teacher_of)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.takes_label_loss and self.label_loss.name != "cross-entropy":
            raise InputError(f"label_loss is {self.label_loss.name}, but {self.name} has a loss of its own for labels.")
        self.check_loss(self.label_loss, self.smoothing)

    @property
    def built_by(self) -> str:
        """The name of the network that is trained."""
        return self.student

    def label_term(self, batch: Batch) -> Float[Tensor, ""]:
        """The weighted loss of the labels."""
        return self.label_weight * label_loss(batch, self.label_loss, self.smoothing, self.dropout_average)

    def loss_terms(self, batch: Batch, state: Distilling) -> Terms:
        """All terms of a step: the term of the labels, if it has a weight, and the method's terms."""
        return ({"labels": self.label_term(batch)} if self.label_weight else {}) | self.terms(batch, state)

    def check_pair(self, student: Answers, teacher: Answers) -> None:
        """Check that the pair has what the method compares.

        If it compares maps, both networks must have the same number of them.

        Raises:
            InputError: It does not.
        """
        for who, answers in (("student", student), ("teacher", teacher)):
            if who in self.features_of and not answers.embedding.shape[1]:
                raise InputError(
                    f"{self.name} needs the features before the last linear layer, but no linear layer gives the "
                    f"{who}'s logits. Take a method on logits alone, such as kd, dkd or dist."
                )
        if not self.uses_stages:
            return
        if len(student.stages) != len(teacher.stages):
            raise InputError(
                f"the student gives {len(student.stages)} stages and the teacher {len(teacher.stages)}. Name the same "
                "number of layers for both (--student-layers, --teacher-layers)."
            )
        if not student.stages:
            raise InputError(
                f"{self.name} compares maps, but no layers are known. Name layers (--student-layers, --teacher-layers)."
            )
        _ = student.shapes, teacher.shapes


@dataclass(frozen=True, kw_only=True)
class InBenchmark(Distillation):
    """A method of the CRD benchmark, which uses the same settings for all pairs."""

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of the CRD benchmark.

        Args:
            data: cifar100, or a pair of the benchmark. A pair sets the student too.

        Raises:
            InputError: Another data set or pair.
        """
        return published(cls, data)
