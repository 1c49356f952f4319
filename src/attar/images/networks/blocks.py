"""What the field's networks are made of, and what every one of them can be asked."""

import math
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
    before_activation: tuple[str, ...] = ()
    """Modules into which the stages' maps go before their last activation, shallow to deep; none where they cannot be
    told apart."""

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

    def draw_layer_(self, layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
        """Draw the parameters of a layer anew, in place: as PyTorch does, unless a network has its own way."""
        draw_uniform_(layer, generator)


class Staged(Network):
    """A stem, stages of convolutions, and the mean over places of what the last layers make of them."""

    stem: nn.Module
    stages: nn.ModuleList
    last: nn.Module

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The map after each stage, and the mean over the places of the last one."""
        maps, x = [], self.stem(images)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps, self.last(x).mean(dim=(2, 3))


class HeStaged(Staged):
    """The same, its convolutions drawn from He's normal distribution (He et al., ICCV 2015, arXiv:1502.01852)."""

    head_spread: float | None = None
    """Standard deviation of the last layer's weights, whose biases are then 0; as PyTorch has it unless given."""

    @torch.no_grad()
    def draw_layer_(self, layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
        """Convolutions N(0, 2 / n), n their filters times the places of one, whatever the groups; biases 0."""
        if isinstance(layer, nn.Conv2d):
            spread = math.sqrt(2 / (layer.weight.numel() // layer.weight.shape[1]))
        elif self.head_spread is None:
            return draw_uniform_(layer, generator)
        else:
            spread = self.head_spread
        layer.weight.copy_(_in_order(layer.weight).normal_(0, spread, generator=generator))
        if layer.bias is not None:
            layer.bias.zero_()
        return None


@torch.no_grad()
def draw_uniform_(layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    """Draw a layer anew as PyTorch does, U(±1/√fan_in), in place."""
    bound = 1 / math.sqrt(layer.weight[0].numel())
    for parameter in layer.parameters(recurse=False):
        parameter.copy_(_in_order(parameter).uniform_(-bound, bound, generator=generator))


def _in_order(parameter: Tensor) -> Tensor:
    """Space to draw it in the order of the indices: draws go by memory, which channels last has in another."""
    return torch.empty_like(parameter, memory_format=torch.contiguous_format)


def norm_layer(name: Norm, filters: int, height: int, width: int) -> nn.Module:
    """A normalisation of so many filters on maps of this size.

    On maps of one place there is none by instance: it would erase the one value.

    Raises:
        InputError: Filters that four groups do not divide.
    """
    if name == "group" and filters % 4:
        raise InputError(f"group norm has 4 groups, but {filters} filters; give a multiple of 4.")
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
