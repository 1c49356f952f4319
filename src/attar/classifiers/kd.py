"""KD: the student learns from the teacher's softened outputs together with the labels.

Try it first. Every other method here has to beat it at the same schedule. It needs no connector and no layer names, and
works with any pair of networks for the same classes.
Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, arXiv:1503.02531.
Standardised logits: Sun, Ren, Li, Wang and Cao, Logit Standardization in Knowledge Distillation, CVPR 2024,
arXiv:2403.01427.
"""

from dataclasses import dataclass
from typing import Annotated, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.distillation import Distillation
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.core.presets import published
from attar.core.settings import Range

Logits = Float[Tensor, "sample classes"]
Scalar = Float[Tensor, ""]

STANDARD_EPSILON = 1e-7
"""Added to a standard deviation before dividing by it (the authors' value)."""


@dataclass(frozen=True, kw_only=True)
class Softened(Distillation):
    """Shared settings of the methods that compare softened outputs. The logits may be standardised first."""

    temperature: Annotated[float, Range(0.01)] = 4.0
    """Temperature that softens answers, T. Use 1 on ImageNet, and 2 with standardised logits."""
    standardise: bool = False
    """Whether logits are first scaled to mean zero and standard deviation one (Sun et al., CVPR 2024,
    arXiv:2403.01427)."""

    def compared(self, batch: Batch) -> tuple[Logits, Logits]:
        """The logits of student and teacher in the form in which they are compared."""
        student, teacher = batch.student.logits, batch.teacher.logits
        return (standardised(student), standardised(teacher)) if self.standardise else (student, teacher)


@dataclass(frozen=True, kw_only=True)
class KD(Softened):
    """Learn from a teacher's softened outputs (Hinton, Vinyals and Dean, arXiv 2015, arXiv:1503.02531).

    L = w_y CE(z_s, y) + w_t T² KL(p(T) ‖ q(T)), p and q the softened softmaxes of teacher and student.
    """

    label_weight: Annotated[float, Range(0)] = 0.1
    """Weight of the cross-entropy with the labels, w_y. The field uses 0.1 on CIFAR-100 and 0.5 on ImageNet."""
    teacher_weight: Annotated[float, Range(0)] = 0.9
    """Weight of the teacher's answers, w_t. Use 0.5 on ImageNet, and 9 with standardised logits."""

    name = "kd"

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The divergence from the teacher's outputs."""
        student, teacher = self.compared(batch)
        return {"teacher": self.teacher_weight * kd_loss(student, teacher, self.temperature)}

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of the field's tables.

        Args:
            data: cifar100, cifar100-standardised (Sun et al.), imagenet, or a pair of their tables, such as
                resnet56-resnet20 or resnet34-resnet18. A pair sets the student too.

        Raises:
            InputError: Another data set or pair.
        """
        return published(cls, data)


def kd_loss(student: Logits, teacher: Logits, temperature: float = 4.0) -> Scalar:
    """T² KL(softmax(z_t / T) ‖ softmax(z_s / T)), averaged over samples.

    Its gradient with respect to the student's logits is T (q - p) / B, so its size depends little on T. For T → ∞ the
    loss
    becomes the squared error of the centred logits, divided by 2C.
    """
    wanted = F.log_softmax(teacher.detach() / temperature, dim=1)
    given = F.log_softmax(student / temperature, dim=1)
    return temperature**2 * F.kl_div(given, wanted, reduction="batchmean", log_target=True)


def standardised(logits: Logits) -> Logits:
    """Each sample's logits at mean zero and (unbiased) standard deviation one, so that KD compares only their shape.

    Invariant to z → a z + b with a > 0, up to `STANDARD_EPSILON`.
    """
    centred = logits - logits.mean(dim=1, keepdim=True)
    return centred / (STANDARD_EPSILON + logits.std(dim=1, keepdim=True))
