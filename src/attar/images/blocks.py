"""What the field's networks are made of, and what every one of them can be asked."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError

Images = Float[Tensor, "batch channel height width"]
Logits = Float[Tensor, "batch classes"]
Embeddings = Float[Tensor, "batch features"]
Maps = Float[Tensor, "batch filters map_height map_width"]
Shape = tuple[int, int, int]
"""Channels, height, width."""

Norm = Literal["none", "batch", "layer", "instance", "group"]
Activation = Literal["relu", "leakyrelu", "sigmoid", "swish"]


class Network(nn.Module):
    """A classifier that shows what it sees on the way."""

    classifier: nn.Module

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The map after each stage, and the embedding that the classifier sees."""
        raise NotImplementedError

    def embed(self, images: Images) -> Embeddings:
        """What the classifier sees."""
        return self.features(images)[1]

    def forward(self, images: Images) -> Logits:
        """Logits."""
        return self.classifier(self.embed(images))

    def redraw_own_(self, generator: torch.Generator) -> None:
        """Draw anew, in place, the parameters that belong to no layer; most networks have none."""


def norm_layer(name: Norm, filters: int, height: int, width: int) -> nn.Module:
    """A normalisation of so many filters on maps of this size.

    On maps of one place there is none by instance: it would erase the one value.

    Raises:
        InputError: Filters that four groups do not divide.
    """
    if name == "group" and filters % 4:
        raise InputError(f"group norm has 4 groups, which {filters} filters do not divide into; give a multiple of 4.")
    makers: dict[Norm, Callable[[], nn.Module]] = {
        "none": nn.Identity,
        "batch": lambda: nn.BatchNorm2d(filters),
        "layer": lambda: nn.LayerNorm([filters, height, width]),
        "instance": lambda: nn.GroupNorm(filters, filters) if height * width > 1 else nn.Identity(),
        "group": lambda: nn.GroupNorm(4, filters),
    }
    return makers[name]()


def activation_layer(name: Activation) -> nn.Module:
    """An activation."""
    makers: dict[Activation, Callable[[], nn.Module]] = {
        "relu": nn.ReLU,
        "leakyrelu": lambda: nn.LeakyReLU(0.01),
        "sigmoid": nn.Sigmoid,
        "swish": nn.SiLU,
    }
    return makers[name]()


def is_padded_digit(shape: Shape) -> bool:
    """Whether the field's code pads such images to 32 pixels in the first layer: one channel, 28×28.

    (It pads every one-channel image by two pixels more, whatever its size; at 8×8 that would be more border than
    picture.)
    """
    return shape == (1, 28, 28)
