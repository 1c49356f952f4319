"""Barlow Twins: the features of two views should agree one by one, and none should repeat another.

It has no negatives, so small batches do, but it wants wide projections.
Zbontar, Jing, Misra, LeCun and Deny, Barlow Twins: Self-Supervised Learning via Redundancy Reduction, ICML 2021,
arXiv:2103.03230.
"""

from dataclasses import dataclass
from typing import Annotated, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core import presets
from attar.core.settings import Range
from attar.embeddings.heads import Projector
from attar.embeddings.learner import About, Batch, Learner, Learning, Terms
from attar.embeddings.selfsup.multihead import exact

Projections = Float[Tensor, "*head sample d"]
Correlations = Float[Tensor, "*head d d"]
PROJECTOR = Projector(projector_layers=3, projected=512, projector_norm=True)


@dataclass(frozen=True, kw_only=True)
class Barlow(Learner):
    """Correlate the features of two views (Zbontar et al., ICML 2021, arXiv:2103.03230)."""

    redundancy_weight: Annotated[float, Range(0)] = 5e-3
    """Weight λ of the squared correlations of different features."""
    projector: Projector = PROJECTOR

    name = "barlow"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published cell: `imagenet` or `cifar10`."""
        return presets.published(cls, data)

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The projector."""
        return {"projector": self.projector.build(width)}

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The redundancy of projections of both views."""
        first, second = (state.heads["projector"](view) for view in self.encoded(batch, state))
        return {"redundancy": barlow_twins(first, second, self.redundancy_weight)}


def barlow_twins(first: Projections, second: Projections, redundancy_weight: float = 5e-3) -> Float[Tensor, "*head"]:
    """Σ_l (1 - C_ll)² + λ Σ_{l≠m} C_lm², for the correlations C of two views, of each head.

    Args:
        first: Projections of a view.
        second: Those of the other.
        redundancy_weight: λ.
    """
    squares, redundant = apart(correlations(first, second))
    return (1 - squares).square().sum(dim=-1) + redundancy_weight * redundant.square().sum(dim=(-2, -1))


def correlations(first: Projections, second: Projections) -> Correlations:
    """The correlation C_lm of every feature l of one view with every feature m of the other, over the batch.

    Standard deviations are divided by the number of samples, so that a view correlates with itself by 1. A feature that
    is constant over the batch correlates with nothing: 0, with a finite gradient.
    """
    first, second = exact(first), exact(second)
    with torch.autocast(first.device.type, enabled=False):
        return standardised(first).mT @ standardised(second) / first.shape[-2]


def standardised(values: Projections) -> Projections:
    """Each feature with mean zero and standard deviation one over the batch; a constant one with zeros."""
    mean = values.mean(dim=-2, keepdim=True)
    centred = values - mean
    variance = centred.square().mean(dim=-2, keepdim=True)
    rounding = (8 * torch.finfo(values.dtype).eps * mean).square()
    varies = variance > rounding.clamp(min=torch.finfo(values.dtype).tiny)
    return torch.where(varies, centred * torch.where(varies, variance, 1.0).rsqrt(), 0.0)


def apart(found: Correlations) -> tuple[Float[Tensor, "*head d"], Correlations]:
    """The diagonal, and the matrix with zeros there."""
    diagonal = found.diagonal(dim1=-2, dim2=-1)
    return diagonal, found - torch.diag_embed(diagonal)
