"""SKD: where classes are few, a student learns from its teacher's answers about their subclasses.

A teacher of two classes can say one bit a sample; of their subclasses it can say more. Subclasses may be known, be
levels of agreement among annotators, or be discovered. Read it beside plain training on the subclass labels, which on
digits brings over nine tenths of what distillation does.
Sajedi, Lawryshyn and Plataniotis, Subclass Knowledge Distillation with Known Subclass Labels, IVMSP 2022,
arXiv:2207.08063. Discovery: Müller, Kornblith and Hinton, Subclass Distillation, arXiv:2002.03936.
The papers' text could not be read; which hard label the student has is a setting, and the class is the default.
"""

import copy
import dataclasses
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.classifiers.curriculum import easy_to_hard, levels_of_subclasses
from attar.classifiers.distillation import Distillation
from attar.classifiers.kd import Scalar, kd_loss
from attar.classifiers.pair import Batch, Distilling, Pair, Terms
from attar.classifiers.schedules import row_of
from attar.classifiers.subclasses import Grouping, SubclassLogits, information
from attar.classifiers.watched import Answers, last_linear
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.images import layout
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
    teacher_weight: Annotated[float, Range(0, 1)] = 0.5
    """Weight of the teacher's answers, α; the hard label has 1 - α."""
    temperature: Annotated[float, Range(0.01)] = 4.0
    """Temperature that softens answers, T."""
    hard: Literal["class", "subclass", "none"] = "class"
    """What the hard label is."""
    class_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the class's cross-entropy beside the subclass's, where that is the hard label (a teacher's option)."""
    teacher_loss: Literal["kl", "ce"] = "kl"
    """Loss on the teacher's answers: the divergence from them (kl), or the cross-entropy with them (ce), which is
    larger by their entropy and has the same gradient."""
    images_in: Literal["random", "easy-to-hard"] = "random"
    """In which order images come: all in every epoch; or first the first subclass of each class, then one more after
    equal times, which for levels of annotators' agreement goes from easy to hard."""
    hard_from: Annotated[float, Range(0, 1)] = 0.5
    """Share of the epochs after which all subclasses are in."""
    even_start: bool = False
    """Whether a student's last layer begins with -log of each subclass's number of siblings, so that classes of any
    size are alike at first."""
    head_share: Annotated[float, Range(0, 1)] = 0.0
    """Share of the epochs in which the last layer alone learns (for a student that is trained before)."""
    level: Literal["subclass", "class"] = "subclass"
    """What the teacher's answers are about; class: the rival that sees class logits alone, softened at T."""

    moved = MappingProxyType({**Distillation.moved, "alpha": "teacher_weight", "divergence": "teacher_loss"})
    name = "skd"
    hard_labels = True

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
        if not self.known and self.images_in == "easy-to-hard":
            raise InputError("subclasses that the teacher has found are no levels; take --images-in random.")
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
        found = F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        if self.hard == "subclass" and self.class_weight:
            over = self.grouping.class_logits(logits)
            found = found + self.class_weight * F.cross_entropy(over, self.grouping.labels(labels))
        return (1 - self.teacher_weight) * found

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """α of the divergence."""
        if not self.teacher_weight:
            return {}
        student, teacher = batch.student.logits, batch.teacher.logits
        if self.level == "subclass":
            entropy = self.teacher_loss == "ce"
            return {"teacher": self.teacher_weight * subclass_loss(student, teacher, self.temperature, entropy=entropy)}
        over = [self.grouping.class_logits(logits) for logits in (student, teacher)]
        return {"teacher": self.teacher_weight * kd_loss(over[0], over[1], self.temperature)}

    def check_pair(self, student: Answers, teacher: Answers) -> None:
        """See that every logit has its class.

        Raises:
            InputError: The group names another number of subclasses.
        """
        if student.logits.shape[1] != len(self.group):
            raise InputError(f"group names {len(self.group)} classes for {student.logits.shape[1]} logits.")
        super().check_pair(student, teacher)

    def build(self, pair: Pair, runtime: Runtime) -> Distilling:
        """A fresh student; its last layer begins as it is to."""
        state = super().build(pair, runtime)
        bias = last_linear(state.student).bias
        if self.even_start:
            if bias is None:
                raise InputError("the student's last layer has no bias to begin with; leave out --even-start.")
            with torch.no_grad():
                bias.copy_(self.grouping.bias())
        return state

    def order(self, epoch: int, source: ImageSource, seed: int) -> Int[Tensor, " image"]:
        """At random, or from easy to hard."""
        if self.images_in == "random":
            return super().order(epoch, source, seed)
        levels = levels_of_subclasses(source.targets, self.grouping)
        return easy_to_hard(levels, epoch, self.epochs, share=self.hard_from, seed=seed)

    def descend(self, terms: Terms, state: Distilling) -> Tensor:
        """The gradient; of the last layer alone while it is to learn alone."""
        loss = super().descend(terms, state)
        if state.done < self.head_share * self.total_steps:
            head = {id(parameter) for parameter in last_linear(state.student).parameters()}
            for parameter in state.student.parameters():
                parameter.grad = parameter.grad if id(parameter) in head else None
        return loss

    @torch.no_grad()
    def further_scores(self, teacher: nn.Module, source: ImageSource, runtime: Runtime) -> dict[str, float]:
        """Bits a sample that the teacher says beyond classes, of the training images; and that their labels do."""
        network = layout.place(copy.deepcopy(teacher), runtime).eval()
        parts = torch.arange(len(source.train)).split(512)
        found = [network(source.inputs(rows, runtime.device)) for rows in parts]
        logits = torch.cat([getattr(said, "logits", said).float().cpu() for said in found])
        told = information(logits, self.grouping, self.temperature, source.targets if self.known else None)
        scores = {"teacher_bits": told.soft, "teacher_bits_softened": told.softened}
        return scores if told.label is None else {**scores, "label_bits": told.label}

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of Müller's notebook, and of the first author's course (not those of the papers: unread).

        Args:
            data: mnist-2x5 (digits below five, and the others), mnist (ten classes of one subclass each) or mhist (with
                a pretrained student, whose last layer learns first; `group` as the votes are cut).

        Raises:
            InputError: Another data set.
        """
        plain: dict[str, Any] = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "cuts": (), "shift": 0}
        mnist: dict[str, Any] = {**plain, "batch": 256, "epochs": 12, "flips": "off"}
        fine_tuned: dict[str, Any] = {"cuts": (10 / 35,), "head_share": 10 / 35}
        rows: dict[str, dict[str, Any]] = {
            "mnist-2x5": {**mnist, "group": (0,) * 5 + (1,) * 5},
            "mnist": mnist,
            "mhist": {**plain, **fine_tuned, "batch": 32, "epochs": 35, "flips": "on", "keep": "f1", "turns": True},
        }
        return cls(**row_of(rows, data, "SKD"))


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
    if not entropy:
        return kd_loss(student, teacher, temperature)
    wanted = F.softmax(teacher.detach() / temperature, dim=1)
    return -(temperature**2) * (wanted * F.log_softmax(student / temperature, dim=1)).sum(dim=1).mean()
