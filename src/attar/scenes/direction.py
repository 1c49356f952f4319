"""How well an edit follows its prompts: directions in the space of embeddings, by CLIP or by a classifier.

The direction score is the cosine between what changed in the pictures and what changed in the texts. It is that of
StyleGAN-NADA (Gal et al., arXiv:2108.00946) as Instruct-NeRF2NeRF computes it (Haque et al., ICCV 2023,
arXiv:2303.12789). Without CLIP, the penultimate features of a classifier stand for the embedding of a picture, and the
mean features of a class for that of its name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError, unknown
from attar.scenes.masks import seen_by

Embeddings = Float[Tensor, "view feature"]
Embedding = Float[Tensor, " _feature"]
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Statistics of the pictures that CLIP learned from."""


def unit(embeddings: Tensor) -> Tensor:
    """The same at length one; nothing stays nothing."""
    return F.normalize(embeddings, dim=-1)


def direction_score(
    edited: Embeddings, source: Embeddings, target_text: Embedding, source_text: Embedding
) -> Float[Tensor, " _view"]:
    """cos(e_I(edit) - e_I(src), e_T(trg) - e_T(src)) of each view, with embeddings of length one.

    Args:
        edited: Embeddings of the edited views.
        source: Those of the same views before the edit.
        target_text: The embedding of the target prompt.
        source_text: That of the source prompt.
    """
    moved, wanted = unit(edited) - unit(source), unit(target_text) - unit(source_text)
    return F.cosine_similarity(moved, wanted.expand_as(moved), dim=-1)


def target_similarity(edited: Embeddings, target_text: Embedding) -> Float[Tensor, " _view"]:
    """cos(e_I(edit), e_T(trg)) of each view."""
    return F.cosine_similarity(edited, target_text.expand_as(edited), dim=-1)


def source_similarity(edited: Embeddings, source: Embeddings) -> Float[Tensor, " _view"]:
    """cos(e_I(edit), e_I(src)) of each view."""
    return F.cosine_similarity(edited, source, dim=-1)


def view_consistency(edited: Embeddings, source: Embeddings) -> Float[Tensor, " _pair"]:
    """The cosine between the edits e_I(edit) - e_I(src) of each two consecutive views of a path of the camera.

    Args:
        edited: Embeddings of the edited views, in the order of the path.
        source: Those of the same views before the edit.

    Raises:
        InputError: There are fewer than two views.
    """
    if len(edited) < 2:
        raise InputError(f"consistency is between views; {len(edited)} is given. Give two or more.")
    moved = unit(edited) - unit(source)
    return F.cosine_similarity(moved[:-1], moved[1:], dim=-1)


@runtime_checkable
class Embedder(Protocol):
    """What embeds pictures and prompts into one space."""

    def images(self, images: Tensor) -> Tensor:
        """The embedding of each image, of values between -1 and 1."""

    def text(self, prompt: str) -> Tensor:
        """The embedding of a prompt."""


class ByCLIP:
    """CLIP from a folder of transformers.

    Args:
        name: The folder, as `save_pretrained` writes it.

    Raises:
        InputError: transformers is not installed, or the folder holds no such model.
    """

    def __init__(self, name: str | Path) -> None:
        from attar.images.labels.captions import clip_named

        self.clip = clip_named(str(name))

    @torch.no_grad()
    def images(self, images: Float[Tensor, "batch 3 height width"]) -> Embeddings:
        """The embedding of each image, of values between -1 and 1."""
        found: Tensor = self.clip.vision(seen_by(images, self.clip.side, CLIP_MEAN, CLIP_STD))
        return found

    @torch.no_grad()
    def text(self, prompt: str) -> Embedding:
        """The embedding of a prompt."""
        return self.clip.read(self.clip.tokens([prompt]))[0]


@dataclass(frozen=True)
class ByClassifier:
    """The penultimate features of a classifier, and the mean features of each class for its name."""

    network: Any
    """A classifier with `embed`, such as those of `attar.images.networks`."""
    classes: tuple[str, ...]
    prototypes: Float[Tensor, "label feature"]
    """The embedding of each class."""

    @classmethod
    @torch.no_grad()
    def of(cls, network: nn.Module, images: Tensor, labels: Int[Tensor, " _batch"], classes: tuple[str, ...]) -> Any:
        """A classifier with the prototypes of labelled images, as the network takes them."""
        features = unit(network.eval().embed(images))  # type: ignore[operator]
        means = [features[labels == label].mean(dim=0) for label in range(len(classes))]
        return cls(network, classes, torch.stack(means))

    @torch.no_grad()
    def images(self, images: Tensor) -> Embeddings:
        """The features of each image."""
        found: Tensor = self.network.eval().embed(images)
        return found

    def text(self, prompt: str) -> Embedding:
        """The prototype of the class of that name.

        Raises:
            InputError: There is no such class.
        """
        return self.prototypes[class_number(prompt, self.classes)]


def class_number(prompt: str, classes: Sequence[str]) -> int:
    """The number of a class by its name.

    Raises:
        InputError: There is no such class.
    """
    if prompt not in classes:
        raise unknown("class", prompt, classes)
    return list(classes).index(prompt)
