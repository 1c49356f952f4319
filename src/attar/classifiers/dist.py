"""DIST: the student's outputs should be correlated with the teacher's, within each sample and within each class.

Correlation is a weaker condition than equal probabilities. That suits a student that is much smaller than its teacher,
or that is trained in another way.
Huang, You, Wang, Qian and Xu, Knowledge Distillation from A Stronger Teacher, NeurIPS 2022, arXiv:2205.10536.
"""

from dataclasses import dataclass
from typing import Annotated, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.distillation import Distillation
from attar.classifiers.kd import Logits, Scalar
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.core.presets import published
from attar.core.settings import Range

EPSILON = 1e-8
"""Added to the product of the two lengths, as in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class DIST(Distillation):
    """Correlate outputs with the teacher's (Huang et al., NeurIPS 2022, arXiv:2205.10536).

    L = CE + w_b τ² (1 - mean_i corr(q_i, p_i)) + w_w τ² (1 - mean_c corr(q_·c, p_·c)).
    """

    between_weight: Annotated[float, Range(0)] = 1.0
    """Weight w_b of the correlation over classes, for each sample."""
    within_weight: Annotated[float, Range(0)] = 1.0
    """Weight w_w of the correlation over samples, for each class."""
    temperature: Annotated[float, Range(0.01)] = 1.0
    """Temperature that softens answers, τ."""

    name = "dist"
    compares_samples = True

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The terms of both correlations."""
        between, within = dist_losses(batch.student.logits, batch.teacher.logits, self.temperature)
        return {"between": self.between_weight * between, "within": self.within_weight * within}

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of the authors' tables.

        Args:
            data: cifar100 (both weights 2, which is said to be in their code; not verified), imagenet, or a pair of
                their tables. A pair sets the student too.

        Raises:
            InputError: Another data set or pair.
        """
        return published(cls, data)


def correlation(first: Float[Tensor, "row value"], second: Float[Tensor, "row value"]) -> Float[Tensor, " row"]:
    """Pearson's correlation of matching rows: ⟨a, b⟩ / (‖a‖ ‖b‖ + ε) of the centred rows a and b.

    It does not change with a positive affine map of either row, as long as ε is small beside the product of lengths.
    """
    first = first - first.mean(dim=1, keepdim=True)
    second = second - second.mean(dim=1, keepdim=True)
    return (first * second).sum(dim=1) / (first.norm(dim=1) * second.norm(dim=1) + EPSILON)


def dist_losses(student: Logits, teacher: Logits, temperature: float = 1.0) -> tuple[Scalar, Scalar]:
    """τ² (1 - mean over samples of corr(q_i, p_i)), and τ² (1 - mean over classes of corr(q_·c, p_·c))."""
    given = F.softmax(student / temperature, dim=1)
    wanted = F.softmax(teacher.detach() / temperature, dim=1)
    between = 1 - correlation(given, wanted).mean()
    within = 1 - correlation(given.T, wanted.T).mean()
    return temperature**2 * between, temperature**2 * within
