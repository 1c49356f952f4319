"""Views of samples: what is drawn anew of each image or row, every time that it is seen."""

from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch

from attar.core.settings import Range, Settings
from attar.embeddings.sources import Inputs, Source
from attar.images.views.crops import crop_and_flip


@dataclass(frozen=True, kw_only=True)
class Views(Settings):
    """How views are drawn."""

    smallest_crop: Annotated[float, Range(0.01, 1)] = 0.2
    """Smallest share of an image's area in a crop."""

    def resolve(self, source: Source) -> Self:
        """The settings for these samples."""
        return self


def drawn_view(plain: Inputs, how: Views, source: Any, generator: torch.Generator) -> Inputs:
    """A view of samples: pixels in [0, 1], or rows of a table."""
    if plain.ndim == 2:
        return plain
    return crop_and_flip(plain, generator, smallest=how.smallest_crop, flips=source.flips)
