"""SKD: where classes are few, a student learns from its teacher's answers about their subclasses.

A teacher of two classes can say one bit a sample; of their subclasses it can say more. Subclasses may be known, be
levels of agreement among annotators, or be discovered. Read it beside plain training on the subclass labels, which on
digits brings over nine tenths of what distillation does.
Sajedi, Lawryshyn and Plataniotis, Subclass Knowledge Distillation with Known Subclass Labels, IVMSP 2022,
arXiv:2207.08063. Discovery: Müller, Kornblith and Hinton, Subclass Distillation, arXiv:2002.03936.
The papers' text could not be read; which hard label the student has is a setting, and the class is the default.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.distillation import Batch, Distillation, Distilling, Pair, Terms
from attar.classifiers.kd import Scalar, kd_loss
from attar.classifiers.subclasses import Grouping, SubclassLogits
from attar.classifiers.watched import last_linear
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.images.sources import ImageSource


@dataclass(frozen=True, kw_only=True)
class SubclassKD(Distillation):
    """Distill through subclasses (Sajedi, Lawryshyn and Plataniotis, IVMSP 2022, arXiv:2207.08063).

    L = α T² KL(p_t(T) ‖ p_s(T)) + (1 - α) CE(Z_s, y): p over subclasses, Z_c the log of the summed exponentials of a
    class's subclass logits. The labels of the data are subclasses, and `group` says to which class each belongs. The
    student is scored on classes.
    """

    group: tuple[int, ...] = ()
    """The class, from 0 on, of each subclass; unless given every label is a class of its own, or the teacher's logits
    are shared out equally."""
    known: bool = True
    """Whether the data's labels are the subclasses; else they are the classes, and the teacher has found subclasses of
    its own (`discover`)."""
    alpha: Annotated[float, Range(0, 1)] = 0.5
    """Weight of what the teacher says; the hard label has the rest."""
    temperature: Annotated[float, Range(0.01)] = 4.0
    """T."""
    hard: Literal["class", "subclass", "none"] = "class"
    """What the hard label is."""
    level: Literal["subclass", "class"] = "subclass"
    """What the teacher's answers are about; class: the rival that sees class logits alone, softened at T."""

    name = "skd"

    @property
    def grouping(self) -> Grouping:
        """The classes of the labels."""
        return Grouping(self.group)

    def group_of(self, outputs: int) -> tuple[int, ...] | None:
        """The class of each logit."""
        return self.group

    def resolve(self, pair: Pair, runtime: Runtime) -> Self:
        """Fill in a class for every label.

        Raises:
            InputError: A group that is not one class for each label.
        """
        labels = len(pair.source.classes)
        group = self.group or (tuple(range(labels)) if self.known else _shared_out(pair, labels))
        if self.known and len(group) != labels:
            raise InputError(f"group names {len(group)} classes for the {labels} labels of {pair.source.name}.")
        if not self.known and Grouping(group).classes != labels:
            raise InputError(f"group names {Grouping(group).classes} classes; {pair.source.name} has {labels}.")
        if not self.known and self.hard == "subclass":
            raise InputError("subclasses that the teacher has found are no labels; take --hard class or none.")
        Grouping(group)
        return dataclasses.replace(super().resolve(pair, runtime), group=group)

    def outputs(self, source: ImageSource) -> int:
        """One for every subclass."""
        return len(self.group)

    def label_term(self, batch: Batch) -> Float[Tensor, ""]:
        """(1 - α) of the class's cross-entropy, or of the subclass's."""
        logits, labels = batch.student.logits, batch.labels
        if self.hard == "none":
            return logits.new_zeros(())
        if self.hard == "class":
            logits = self.grouping.class_logits(logits)
            labels = self.grouping.labels(labels) if self.known else labels
        return (1 - self.alpha) * F.cross_entropy(logits, labels, label_smoothing=self.smoothing)

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """α of the divergence."""
        if not self.alpha:
            return {}
        student, teacher = batch.student.logits, batch.teacher.logits
        if self.level == "subclass":
            return {"teacher": self.alpha * subclass_loss(student, teacher, self.temperature)}
        over = [self.grouping.class_logits(logits) for logits in (student, teacher)]
        return {"teacher": self.alpha * kd_loss(over[0], over[1], self.temperature)}


def _shared_out(pair: Pair, classes: int) -> tuple[int, ...]:
    """As many of the teacher's logits for every class, in their order."""
    many = 0 if pair.teacher is None else last_linear(pair.teacher).out_features
    if many == 0 or many % classes:
        raise InputError(f"the teacher's {many} logits cannot be shared out among {classes} classes; give --group.")
    return tuple(number for number in range(classes) for _ in range(many // classes))


def subclass_loss(
    student: SubclassLogits, teacher: SubclassLogits, temperature: float = 4.0, *, entropy: bool = False
) -> Scalar:
    """T² KL(p_t(T) ‖ p_s(T)) over subclasses, averaged over samples; with the teacher's entropy added where asked.

    At T = 1 it is the divergence over classes and, weighed by the teacher's P_c, that within each class.
    """
    wanted = F.log_softmax(teacher.detach() / temperature, dim=1)
    given = F.log_softmax(student / temperature, dim=1)
    distance = -given if entropy else wanted - given
    return temperature**2 * (wanted.exp() * distance).sum(dim=1).mean()
