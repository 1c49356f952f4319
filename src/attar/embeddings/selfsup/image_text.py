"""What methods for image-text pairs share: a text encoder beside the image encoder, and the space that they share."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.embeddings.artefact import TEXT
from attar.embeddings.heads import Projector
from attar.embeddings.learner import About, Batch, Learner, Learning
from attar.embeddings.texts import TextEncoder, text_encoder_built, text_encoder_named
from attar.embeddings.views import Views

Sides = tuple[Float[Tensor, "sample d"], Float[Tensor, "sample d"]]

LARGE_CROP = 0.9
"""Smallest share of an image in a crop (CLIP): what is cut off may be what the caption tells of."""


class TextHead(nn.Module):
    """A text encoder with its projector."""

    def __init__(self, encoder: TextEncoder, projector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    @property
    def facts(self) -> dict[str, Any]:
        """What the encoder is built from again."""
        return self.encoder.facts

    def forward(self, captions: Sequence[str]) -> Float[Tensor, "text d"]:
        """The projections of texts."""
        place = next(self.projector.parameters()).device
        return self.projector(self.encoder(self.encoder.tokens(captions).to(place)))


@dataclass(frozen=True, kw_only=True)
class Paired(Learner):
    """Shared settings of the methods that can learn from image-text pairs."""

    text_encoder: str = "words"
    """The text encoder of image-text pairs, by words: words:width=128,depth=1, bytes, or transformers:FOLDER."""
    projector: Projector = field(default_factory=Projector)

    @property
    def takes_pairs(self) -> bool:
        """Whether it learns from image-text pairs, once the settings are resolved."""
        return True

    @property
    def drawn_views(self) -> int:  # type: ignore[override]
        """One of an image whose other view is its caption."""
        return 1 if self.takes_pairs else 2

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The projector, and the text encoder with one of its own."""
        heads: dict[str, nn.Module] = {"projector": self.projector.build(width)}
        if self.takes_pairs:
            if TEXT in about.facts:
                encoder = text_encoder_built(about.facts[TEXT])
            else:
                encoder = text_encoder_named(self.text_encoder, about.captions, torch.default_generator)
            heads[TEXT] = TextHead(encoder, self.projector.build(encoder.width))
        return heads

    def encoders(self, state: Learning) -> list[nn.Module]:
        """The encoder of images, and that of texts."""
        texts = state.heads[TEXT].encoder if self.takes_pairs else None
        return super().encoders(state) + ([texts] if isinstance(texts, nn.Module) else [])

    def sides(self, batch: Batch, state: Learning) -> Sides:
        """The projections of both views, or of images and texts."""
        projector = state.heads["projector"]
        if self.takes_pairs:
            return projector(state.encoder(batch.views[0])), state.heads[TEXT](batch.captions)
        first, second = (projector(view) for view in self.encoded(batch, state))
        return first, second


def views_of_pairs(view: Views) -> Views:
    """How images are changed whose captions tell what is where, unless a recipe is given: large crops, nothing else."""
    if view.recipe != "auto":
        return view
    crop = 1.0 if view.crop is None else view.crop
    smallest = LARGE_CROP if view.smallest_crop is None else view.smallest_crop
    return replace(view, recipe="none", crop=crop, smallest_crop=smallest)
