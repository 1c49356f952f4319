"""DCL: SimCLR whose softmax runs over negatives only.

In SimCLR's loss a pair that agrees already shrinks the gradient of its negatives too, the more the smaller the batch.
Without the positive in the denominator it does not, so DCL is worth trying where batches are small. With a width σ it
is DCLW, which weighs down positives that are near already, by a von Mises-Fisher density.
Yeh, Hong, Hsu, Liu, Chen and LeCun, Decoupled Contrastive Learning, ECCV 2022, arXiv:2110.06848.
"""

from dataclasses import dataclass, field
from typing import Annotated, Self

from torch import nn

from attar.core.presets import published
from attar.core.settings import Range
from attar.embeddings.heads import Projector
from attar.embeddings.learner import About, Batch, Learner, Learning, Terms
from attar.embeddings.losses.two_views import dcl


@dataclass(frozen=True, kw_only=True)
class DCL(Learner):
    """Leave the positive out of the denominator of SimCLR's loss (Yeh et al., ECCV 2022, arXiv:2110.06848)."""

    contrast_temperature: Annotated[float, Range(0.001)] = 0.1
    """Temperature τ of the contrast."""
    positive_sigma: Annotated[float, Range(0)] = 0.0
    """Width σ of the weights 2 - B softmax(s / σ) of the B positives (DCLW: 0.5). 0: all weigh alike."""
    projector: Projector = field(default_factory=Projector)

    name = "dcl"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published cell.

        Args:
            data: cifar10-200 or cifar10-800 (a popular library's benchmark with ResNet-18, by epochs).

        Raises:
            InputError: Another cell.
        """
        return published(cls, data)

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The projector."""
        return {"projector": self.projector.build(width)}

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The loss on projections of both views."""
        first, second = (state.heads["projector"](view) for view in self.encoded(batch, state))
        return {"contrast": dcl(first, second, self.contrast_temperature, self.positive_sigma or None)}
