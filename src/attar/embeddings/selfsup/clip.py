"""CLIP: an image should be nearer to its caption than to the other captions of the batch, and the caption likewise.

The simplest method for image-text pairs, and the one that SogCLR and iSogCLR have to beat. It wants large batches.
Radford, Kim, Hallacy et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021,
arXiv:2103.00020.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.engine import Metrics
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.embeddings.learner import About, Batch, Learning, Terms
from attar.embeddings.losses.two_views import info_nce
from attar.embeddings.selfsup.image_text import Paired, views_of_pairs
from attar.embeddings.sources import Source

LOWEST, HIGHEST = 0.01, 1.0
"""Range of a temperature that is learned; 0.01 is CLIP's limit."""


def clip_loss(
    images: Float[Tensor, "pair d"], texts: Float[Tensor, "pair d"], temperature: float | Float[Tensor, ""] = 0.07
) -> Float[Tensor, ""]:
    """Half the cross-entropy of each image among all texts, and of each text among all images.

    Args:
        images: Embeddings of images, of any length.
        texts: Embeddings of their captions.
        temperature: τ of the cosines.
    """
    return (info_nce(images, texts, temperature) + info_nce(texts, images, temperature)) / 2


class LearnedTemperature(nn.Module):
    """One temperature whose logarithm is learned."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self) -> Float[Tensor, ""]:
        """τ, within its range."""
        with torch.no_grad():
            self.log.clamp_(math.log(LOWEST), math.log(HIGHEST))
        return self.log.exp()


@dataclass(frozen=True, kw_only=True)
class CLIP(Paired):
    """Pull an image and its caption together, away from the batch (Radford et al., ICML 2021, arXiv:2103.00020)."""

    contrast_temperature: Annotated[float, Range(0.001)] = 0.07
    """Temperature τ of the contrast. If it is learned, it starts there."""
    learn_temperature: bool = False
    """Whether one temperature for all samples is learned."""

    name = "clip"
    needs = "captions"
    inputs = "images"

    def resolve(self, source: Source, runtime: Runtime) -> Self:
        """The settings for these data."""
        return replace(super().resolve(source, runtime), view=views_of_pairs(self.view).resolve(source))

    def memories(self, width: int, about: About) -> dict[str, nn.Module]:
        """The temperature, if it is learned."""
        return {"temperature": LearnedTemperature(self.contrast_temperature)} if self.learn_temperature else {}

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The cross-entropy both ways."""
        images, texts = self.sides(batch, state)
        learned = state.memory["temperature"]() if self.learn_temperature else self.contrast_temperature
        return {"contrast": clip_loss(images, texts, learned)}

    def told(self, state: Learning) -> Metrics:
        """The temperature, if it is learned."""
        learned = state.memory["temperature"] if self.learn_temperature else None
        return {"temperature": learned.log.detach().exp()} if isinstance(learned, LearnedTemperature) else {}
