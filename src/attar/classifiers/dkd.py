"""DKD: KD split into two terms with separate weights, one for the right class and one for the other classes.

The second term ranks the other classes and carries most of what a student can learn. KD weighs it by the teacher's
uncertainty; here it has a weight of its own. Prefer DKD to KD for a teacher that is nearly always certain. Its β has to
be tuned for each pair.
Zhao, Cui, Song, Qiu and Liang, Decoupled Knowledge Distillation, CVPR 2022, arXiv:2203.08679.
"""

from dataclasses import dataclass
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.classifiers.kd import Logits, Softened
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.core.presets import published
from attar.core.settings import Range

Each = Float[Tensor, " sample"]
Labels = Int[Tensor, " sample"]


@dataclass(frozen=True, kw_only=True)
class DKD(Softened):
    """Weigh the right class and the other classes separately (Zhao et al., CVPR 2022, arXiv:2203.08679).

    L = CE + w(e) T² (α TCKD + β NCKD), w(e) = min(1, e / warm-up).
    """

    alpha: Annotated[float, Range(0)] = 1.0
    """Weight α of the right class."""
    beta: Annotated[float, Range(0)] = 2.0
    """Weight β of the ranking of the others: 2 to 8 by pair on CIFAR-100, 0.5 and 2 on ImageNet. At 8 its gradient is
    about thirty times that of the labels, so a small student may diverge at the field's step size."""

    name = "dkd"
    hard_labels = True

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """Both terms, warmed up."""
        student, teacher = self.compared(batch)
        weights = {"temperature": self.temperature, "alpha": self.alpha, "beta": self.beta}
        return {"teacher": batch.warm * dkd_loss(student, teacher, batch.labels, **weights)}

    @classmethod
    def paper(cls, pair: str) -> Self:
        """The settings of one cell of the paper's tables.

        Args:
            pair: Teacher and student, such as resnet56-resnet20.

        Raises:
            InputError: The tables do not have the pair.
        """
        return published(cls, pair)


def decoupled(student: Logits, teacher: Logits, labels: Labels, temperature: float = 4.0) -> tuple[Each, Each, Each]:
    """The two parts of KL(p ‖ q) for each sample, and p_y: KL = TCKD + (1 - p_y) NCKD.

    TCKD compares (p_y, 1 - p_y) with (q_y, 1 - q_y). NCKD compares the softmaxes over the other classes. Both are
    computed
    from log-probabilities, so that an almost certain teacher causes no overflow.
    """
    others = torch.arange(student.shape[1] - 1, device=labels.device).expand(len(labels), -1)
    others = others + (others >= labels[:, None])  # by numbers, because a GPU has to wait for what a mask selects
    right_p, wrong_p, rest_p = _split(teacher.detach() / temperature, labels, others)
    right_q, wrong_q, rest_q = _split(student / temperature, labels, others)
    target = right_p.exp() * (right_p - right_q) + wrong_p.exp() * (wrong_p - wrong_q)
    return target, (rest_p.exp() * (rest_p - rest_q)).sum(dim=1), right_p.exp()


def dkd_loss(
    student: Logits,
    teacher: Logits,
    labels: Labels,
    *,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float | Each = 2.0,
) -> Float[Tensor, ""]:
    """T² (α TCKD + β NCKD), averaged over samples. With β = 1 - p_y of each sample it equals KD."""
    target, rest, _ = decoupled(student, teacher, labels, temperature)
    return temperature**2 * (alpha * target + beta * rest).mean()


def _split(logits: Logits, labels: Labels, others: Tensor) -> tuple[Each, Each, Tensor]:
    """The log-probabilities of the right class, of all others together, and of each other class among the others."""
    log_all = F.log_softmax(logits, dim=1)
    right = log_all.gather(1, labels[:, None]).squeeze(1)
    rest = log_all.gather(1, others)
    wrong = torch.logsumexp(rest, dim=1)
    return right, wrong, rest - wrong[:, None]
