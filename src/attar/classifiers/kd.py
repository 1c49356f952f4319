"""KD: a student learns a teacher's softened answers beside the labels.

The first thing to try, and what every other method here has to beat at the same schedule. It needs no connector and
no layer's name, and works with any pair of networks that tell the same classes apart.
Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, arXiv:1503.02531.
Standardised logits: Sun, Ren, Li, Wang and Cao, Logit Standardization in Knowledge Distillation, CVPR 2024,
arXiv:2403.01427.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.distillation import Distillation
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.classifiers.schedules import row_of, schedule
from attar.core.settings import Range

Logits = Float[Tensor, "sample classes"]
Scalar = Float[Tensor, ""]

STANDARD_EPSILON = 1e-7
"""Added to a standard deviation before dividing by it; the authors'."""


@dataclass(frozen=True, kw_only=True)
class Softened(Distillation):
    """What the methods share that compare softened answers, which may be standardised first."""

    temperature: Annotated[float, Range(0.01)] = 4.0
    """Temperature that softens answers, T (1 on ImageNet; 2 with standardised logits)."""
    standardise: bool = False
    """Whether logits are brought to mean zero and deviation one first (Sun et al., CVPR 2024, arXiv:2403.01427)."""

    def compared(self, batch: Batch) -> tuple[Logits, Logits]:
        """The student's logits and the teacher's, as they are compared."""
        student, teacher = batch.student.logits, batch.teacher.logits
        return (standardised(student), standardised(teacher)) if self.standardise else (student, teacher)


@dataclass(frozen=True, kw_only=True)
class KD(Softened):
    """Learn a teacher's softened answers (Hinton, Vinyals and Dean, arXiv 2015, arXiv:1503.02531).

    L = w_y CE(z_s, y) + w_t T² KL(p(T) ‖ q(T)), p and q the softened softmaxes of teacher and student.
    """

    label_weight: Annotated[float, Range(0)] = 0.1
    """Weight of the cross-entropy with the labels (the field's on CIFAR-100; 0.5 on ImageNet)."""
    teacher_weight: Annotated[float, Range(0)] = 0.9
    """Weight of the teacher's answers (0.5 on ImageNet; 9 with standardised logits)."""

    name = "kd"

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The divergence from the teacher."""
        student, teacher = self.compared(batch)
        return {"teacher": self.teacher_weight * kd_loss(student, teacher, self.temperature)}

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of the field's tables.

        Args:
            data: cifar100 or imagenet; of the former also cifar100-standardised (Sun et al.); or a pair of their
                tables, such as resnet56-resnet20 or resnet34-resnet18, whose student is then taken.

        Raises:
            InputError: Another data set or pair.
        """
        rows: dict[str, dict[str, Any]] = {
            "cifar100": {},
            "cifar100-standardised": {"standardise": True, "temperature": 2.0, "teacher_weight": 9.0},
            "imagenet": {"label_weight": 0.5, "teacher_weight": 0.5, "temperature": 1.0},
        }
        found = row_of(rows, data, "KD")
        return cls(**schedule(data), **found)


def kd_loss(student: Logits, teacher: Logits, temperature: float = 4.0) -> Scalar:
    """T² KL(softmax(z_t / T) ‖ softmax(z_s / T)), averaged over samples.

    Its gradient in the student's logits is T (q - p) / B, so T does not change its size by much; for T → ∞ it becomes
    the squared error of the centred logits, divided by 2C.
    """
    wanted = F.log_softmax(teacher.detach() / temperature, dim=1)
    given = F.log_softmax(student / temperature, dim=1)
    return temperature**2 * F.kl_div(given, wanted, reduction="batchmean", log_target=True)


def standardised(logits: Logits) -> Logits:
    """Each sample's logits with mean zero and (unbiased) standard deviation one: what KD then compares is their shape.

    Invariant to z → a z + b with a > 0, up to `STANDARD_EPSILON`.
    """
    centred = logits - logits.mean(dim=1, keepdim=True)
    return centred / (STANDARD_EPSILON + logits.std(dim=1, keepdim=True))
