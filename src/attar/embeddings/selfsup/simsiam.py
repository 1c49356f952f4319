"""SimSiam: predict one view's projection from the other's, which is held still; no negatives, no second encoder.

The least machinery of all, and small batches do. What keeps it from giving everything the same projection are the
predictor, the stopped gradient and batch norm, so watch the curve `spread`: 1 is a full spread, 0 is collapse.
Chen and He, Exploring Simple Siamese Representation Learning, CVPR 2021, arXiv:2011.10566.
"""

from dataclasses import dataclass
from typing import Annotated, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core import presets
from attar.core.engine import Metrics
from attar.core.precision import at_least_float32
from attar.core.settings import Range
from attar.embeddings.heads import Projector
from attar.embeddings.learner import About, Batch, Learner, Learning, Terms
from attar.embeddings.selfsup.multihead import directions

Projections = Float[Tensor, "*head sample d"]
PROJECTOR = Projector(projector_norm=True, projector_last_norm=True)


@dataclass(frozen=True, kw_only=True)
class SimSiam(Learner):
    """Predict one view's projection from the other's (Chen and He, CVPR 2021, arXiv:2011.10566)."""

    predictor_width: Annotated[int, Range(1)] = 64
    """Units of the predictor's hidden layer, a quarter to a half of a projection's size."""
    projector: Projector = PROJECTOR

    name = "simsiam"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published cell: `imagenet` or `cifar10`."""
        return presets.published(cls, data)

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The projector and the predictor."""
        head = predictor(self.projector.projected, self.predictor_width)
        return {"projector": self.projector.build(width), "predictor": head}

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The negative cosine of each view's prediction with the other view."""
        first, second = (state.heads["projector"](view) for view in self.encoded(batch, state))
        state.handed["spread"] = spread(first)
        predicted = [state.heads["predictor"](view) for view in (first, second)]
        return {"cosine": simsiam(predicted[0], second, predicted[1], first)}

    def curves(self, state: Learning) -> Metrics:
        """The spread of the projections."""
        return dict(state.handed)


def predictor(size: int, width: int) -> nn.Sequential:
    """A bottleneck that predicts a projection: linear, batch norm, ReLU, linear."""
    return nn.Sequential(nn.Linear(size, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, size))


def simsiam(
    first: Projections, second_target: Projections, second: Projections, first_target: Projections
) -> Float[Tensor, "*head"]:
    """-½ cos(p₁, z₂) - ½ cos(p₂, z₁), averaged over the batch, without a gradient to z; of each head.

    Args:
        first: p₁, predictions from the first view.
        second_target: z₂, projections of the second view.
        second: p₂, predictions from the second view.
        first_target: z₁, projections of the first view.
    """
    return -(still_cosine(first, second_target) + still_cosine(second, first_target)).mean(dim=-1) / 2


def still_cosine(predicted: Projections, target: Projections) -> Float[Tensor, "*head sample"]:
    """The cosine of each prediction with its target, which is held still."""
    return F.cosine_similarity(at_least_float32(predicted), at_least_float32(target.detach()), dim=-1)


def spread(projections: Projections) -> Float[Tensor, ""]:
    """√d times the mean deviation of entries of normalised projections: 1 if they point everywhere, 0 if one way."""
    unit = directions(projections.detach())
    return unit.std(dim=-2, correction=0).mean() * unit.shape[-1] ** 0.5
