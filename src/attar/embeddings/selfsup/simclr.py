"""SimCLR: two views of a sample should be nearer to one another than to all others of the batch.

The simplest of the contrastive methods, and the one to beat. It wants large batches; SogCLR does not.
Chen, Kornblith, Norouzi and Hinton, A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020,
arXiv:2002.05709.
"""

from dataclasses import dataclass, field
from typing import Annotated, Self

from torch import nn

from attar.core.presets import published
from attar.core.settings import Range
from attar.embeddings.heads import Projector
from attar.embeddings.learner import About, Batch, Learner, Learning, Terms
from attar.embeddings.losses.two_views import nt_xent


@dataclass(frozen=True, kw_only=True)
class SimCLR(Learner):
    """Pull two views of a sample together, away from the others (Chen et al., ICML 2020, arXiv:2002.05709)."""

    contrast_temperature: Annotated[float, Range(0.001)] = 0.2
    """Temperature τ of the contrast."""
    projector: Projector = field(default_factory=Projector)

    name = "simclr"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published cell.

        Args:
            data: imagenet (the paper); cifar10 or cifar100 (the code of SupCon's authors); cifar10-200 or cifar10-800
                (a popular library's benchmark with ResNet-18, by epochs).

        Raises:
            InputError: Another cell.
        """
        return published(cls, data)

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The projector."""
        return {"projector": self.projector.build(width)}

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """NT-Xent on projections of both views."""
        first, second = (state.heads["projector"](view) for view in self.encoded(batch, state))
        return {"contrast": nt_xent(first, second, self.contrast_temperature)}
