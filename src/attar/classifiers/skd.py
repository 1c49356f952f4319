"""SKD: with few classes, the student learns from the teacher's outputs for subclasses.

A teacher of two classes can give one bit per sample. It can give more with subclasses. Subclasses may be known, be
levels of agreement among annotators, or be discovered. Compare it with plain training on the subclass labels, which on
digits gives over nine tenths of the gain of distillation.
Sajedi, Lawryshyn and Plataniotis, Subclass Knowledge Distillation with Known Subclass Labels, IVMSP 2022,
arXiv:2207.08063. Discovery: Müller, Kornblith and Hinton, Subclass Distillation, arXiv:2002.03936.
The text of the papers could not be read. Which hard label the student has is a setting; its default is the class.
"""

import copy
import dataclasses
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.classifiers.curriculum import easy_to_hard, levels_of_subclasses
from attar.classifiers.distillation import Distillation
from attar.classifiers.dropout import over_masks
from attar.classifiers.kd import Scalar, kd_loss
from attar.classifiers.pair import Batch, Distilling, Pair, Terms
from attar.classifiers.subclasses import Grouping, SubclassLogits, information
from attar.classifiers.watched import Answers, Watched, last_linear
from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.images import layout
from attar.images.networks.architecture import device_of
from attar.images.networks.outputs import logits_in
from attar.images.sources import ImageSource


@dataclass(frozen=True, kw_only=True)
class SubclassKD(Distillation):
    """Distill through subclasses (Sajedi, Lawryshyn and Plataniotis, IVMSP 2022, arXiv:2207.08063).

    L = α T² KL(p_t(T) ‖ p_s(T)) + (1 - α) CE(Z_s, y), where p is over subclasses and Z_c the log of the summed
    exponentials
    of a class's subclass logits. The labels of the data are subclasses, and `group` gives the class of each. The
    student is
    scored on classes.
    """

    group: tuple[int, ...] = ()
    """Class of each subclass, numbered from 0. Default: each label is its own class, or the teacher's logits are
    divided equally among the classes."""
    known: bool = True
    """Whether the data's labels are subclasses. If not, they are classes and the teacher has discovered subclasses
    (`discover`)."""
    teacher_weight: Annotated[float, Range(0, 1)] = 0.5
    """Weight of the teacher's answers, α. The hard label has 1 - α."""
    temperature: Annotated[float, Range(0.01)] = 4.0
    """Temperature that softens answers, T."""
    hard: Literal["class", "subclass", "none"] = "class"
    """Hard label of the student: its class, its subclass, or none."""
    class_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the cross-entropy of the class in addition to that of the subclass, with --hard subclass (an option for
    training teachers)."""
    teacher_loss: Literal["kl", "ce"] = "kl"
    """Loss on the teacher's outputs: the divergence (kl) or the cross-entropy (ce), which is larger by the teacher's
    entropy and has the same gradient."""
    images_in: Literal["random", "easy-to-hard"] = "random"
    """Order of the images: all in every epoch; or first the first subclass of each class, then one more after equal
    times. For levels of annotators' agreement the second goes from easy to hard."""
    hard_from: Annotated[float, Range(0, 1)] = 0.5
    """Share of the epochs after which all subclasses are included, with --images-in easy-to-hard."""
    even_start: bool = False
    """Whether the biases of the student's last layer start at minus the log of the number of subclasses in each
    subclass's class, so that all classes are equally likely at first."""
    head_share: Annotated[float, Range(0, 1)] = 0.0
    """Share of the epochs in which only the last layer is trained, for a pretrained student."""
    level: Literal["subclass", "class"] = "subclass"
    """Level of the teacher's outputs. class is a baseline that sees only class logits, softened at T."""

    moved = MappingProxyType({**Distillation.moved, "alpha": "teacher_weight", "divergence": "teacher_loss"})
    name = "skd"
    takes_label_loss = False
    hard_labels = True

    @property
    def grouping(self) -> Grouping:
        """The class of each label."""
        return Grouping(self.group)

    @property
    def features_of(self) -> tuple[str, ...]:  # type: ignore[override]
        """The student, if its last layer is trained alone at first or starts even."""
        return ("student",) if self.head_share or self.even_start else ()

    def group_of(self, outputs: int) -> tuple[int, ...] | None:
        """The class of each logit."""
        return self.group

    def resolve(self, pair: Pair, runtime: Runtime) -> Self:
        """Fill in a class for every label.

        Raises:
            InputError: The group does not give one class for each label.
        """
        labels = len(pair.source.classes)
        group = self.group or (tuple(range(labels)) if self.known else _shared_out(pair, labels))
        if self.known and len(group) != labels:
            raise InputError(f"group gives {len(group)} classes, but {pair.source.name} has {labels} labels.")
        if not self.known and Grouping(group).classes != labels:
            raise InputError(f"group gives {Grouping(group).classes} classes, but {pair.source.name} has {labels}.")
        if not self.known and self.hard == "subclass":
            raise InputError(
                "the teacher's discovered subclasses are not labels of the data. Give --hard class or none."
            )
        if not self.known and self.images_in == "easy-to-hard":
            raise InputError("the teacher's discovered subclasses have no order. Give --images-in random.")
        Grouping(group)
        return dataclasses.replace(super().resolve(pair, runtime), group=group)

    def outputs(self, source: ImageSource) -> int:
        """One logit for every subclass."""
        return len(self.group)

    def label_term(self, batch: Batch) -> Float[Tensor, ""]:
        """(1 - α) times the cross-entropy of the class or of the subclass."""
        if self.hard == "none":
            return batch.student.logits.new_zeros(())
        found = over_masks(batch, self.dropout_average, lambda logits: self._of_labels(logits, batch.labels))
        return (1 - self.teacher_weight) * found

    def _of_labels(self, logits: SubclassLogits, labels: Tensor) -> Float[Tensor, ""]:
        if self.hard == "class":
            logits = self.grouping.class_logits(logits)
            labels = self.grouping.labels(labels) if self.known else labels
        found = F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        if self.hard == "subclass" and self.class_weight:
            over = self.grouping.class_logits(logits)
            found = found + self.class_weight * F.cross_entropy(over, self.grouping.labels(labels))
        return found

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """α times the divergence from the teacher's outputs."""
        if not self.teacher_weight:
            return {}
        student, teacher = batch.student.logits, batch.teacher.logits
        if self.level == "subclass":
            entropy = self.teacher_loss == "ce"
            return {"teacher": self.teacher_weight * subclass_loss(student, teacher, self.temperature, entropy=entropy)}
        over = [self.grouping.class_logits(logits) for logits in (student, teacher)]
        return {"teacher": self.teacher_weight * kd_loss(over[0], over[1], self.temperature)}

    def check_pair(self, student: Answers, teacher: Answers) -> None:
        """Check that every logit has a class.

        Raises:
            InputError: The group gives another number of subclasses.
        """
        if student.logits.shape[1] != len(self.group):
            raise InputError(
                f"group gives {len(self.group)} classes for {student.logits.shape[1]} logits. Give one for each."
            )
        super().check_pair(student, teacher)

    def build(self, pair: Pair, runtime: Runtime) -> Distilling:
        """A fresh student, with its last layer's biases set if `even_start` is on."""
        state = super().build(pair, runtime)
        if self.even_start:
            bias = last_linear(state.student).bias
            if bias is None:
                raise InputError("the student's last layer has no bias. Do not set --even-start.")
            with torch.no_grad():
                bias.copy_(self.grouping.bias())
        return state

    def order(self, epoch: int, source: ImageSource, seed: int) -> Int[Tensor, " image"]:
        """A random order, or the order from easy to hard."""
        if self.images_in == "random":
            return super().order(epoch, source, seed)
        levels = levels_of_subclasses(source.targets, self.grouping)
        return easy_to_hard(levels, epoch, self.epochs, share=self.hard_from, seed=seed)

    def descend(self, terms: Terms, state: Distilling) -> Tensor:
        """Compute the gradient. While only the last layer is trained, drop the others' gradients."""
        loss = super().descend(terms, state)
        if state.done < self.head_share * self.total_steps:
            head = {id(parameter) for parameter in last_linear(state.student).parameters()}
            for parameter in state.student.parameters():
                parameter.grad = parameter.grad if id(parameter) in head else None
        return loss

    @torch.no_grad()
    def further_scores(self, teacher: nn.Module, source: ImageSource, runtime: Runtime) -> dict[str, float]:
        """Bits per training image that the teacher's outputs, and the subclass labels, add to the classes."""
        network = layout.place(copy.deepcopy(teacher), runtime).eval()
        parts = torch.arange(len(source.train)).split(512)
        found = [network(source.inputs(rows, runtime.device)) for rows in parts]
        logits = torch.cat([logits_in(said, "teacher").float().cpu() for said in found])
        told = information(logits, self.grouping, self.temperature, source.targets if self.known else None)
        scores = {"teacher_bits": told.soft, "teacher_bits_softened": told.softened}
        return scores if told.label is None else {**scores, "label_bits": told.label}

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of Müller's notebook and of the first author's course. Those of the papers could not be read.

        Args:
            data: mnist-2x5 (digits below five, and the others), mnist (ten classes of one subclass each) or mhist (with
                a pretrained student, whose last layer is trained first; set `group` to match the levels of votes).

        Raises:
            InputError: Another data set.
        """
        return published(cls, data)


def _shared_out(pair: Pair, classes: int) -> tuple[int, ...]:
    """An equal number of the teacher's logits for every class, in their order."""
    many = 0
    if pair.teacher is not None:
        said = Watched(pair.teacher, who="teacher").tried(pair.source.shape, device_of(pair.teacher))
        many = said.logits.shape[1]
    if many == 0 or many % classes:
        raise InputError(
            f"the teacher's {many} logits cannot be divided equally among {classes} classes. Give --group."
        )
    return tuple(number for number in range(classes) for _ in range(many // classes))


def subclass_loss(
    student: SubclassLogits, teacher: SubclassLogits, temperature: float = 4.0, *, entropy: bool = False
) -> Scalar:
    """T² KL(p_t(T) ‖ p_s(T)) over subclasses, averaged over samples. With `entropy` the teacher's entropy is added.

    At T = 1 it is the sum of the divergence over classes and the divergences within classes, weighted by the teacher's
    P_c.
    """
    if not entropy:
        return kd_loss(student, teacher, temperature)
    wanted = F.softmax(teacher.detach() / temperature, dim=1)
    return -(temperature**2) * (wanted * F.log_softmax(student / temperature, dim=1)).sum(dim=1).mean()
