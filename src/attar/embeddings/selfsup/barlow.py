"""Barlow Twins: the features of two views should agree one by one, and none should repeat another.

It has no negatives, so small batches do, but it wants wide projections.
Zbontar, Jing, Misra, LeCun and Deny, Barlow Twins: Self-Supervised Learning via Redundancy Reduction, ICML 2021,
arXiv:2103.03230.
"""

from dataclasses import dataclass
from typing import Annotated, Self

from torch import nn

from attar.core import presets
from attar.core.settings import Range
from attar.embeddings.heads import Projector
from attar.embeddings.learner import About, Batch, Learner, Learning, Terms
from attar.embeddings.losses.two_views import barlow_twins

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

    @property
    def steps_per_epoch(self) -> int:
        """Steps per epoch, of whole batches."""
        return whole_batches(self)

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The projector."""
        return {"projector": self.projector.build(width)}

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The redundancy of projections of both views."""
        first, second = (state.heads["projector"](view) for view in self.encoded(batch, state))
        return {"redundancy": barlow_twins(first, second, self.redundancy_weight)}


def whole_batches(method: Learner) -> int:
    """Steps per epoch without a last, shorter batch: correlations over a few samples are all near 1 or -1."""
    return max(1, method.samples // method.batch)
