"""The parts of the field's networks, and the interface of all of them."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError

Images = Float[Tensor, "batch channel height width"]
Logits = Float[Tensor, "batch classes"]
Embeddings = Float[Tensor, "batch features"]
Maps = Float[Tensor, "batch filters map_height map_width"]
Halved = Float[Tensor, "batch filters half_height half_width"]
Shape = tuple[int, int, int]
"""Channels, height, width."""

Norm = Literal["none", "batch", "layer", "instance", "group"]
Activation = Literal["relu", "leakyrelu", "sigmoid", "swish"]


class Network(nn.Module):
    """A classifier that also returns the maps of its stages."""

    classifier: nn.Module
    before_activation: tuple[str, ...] = ()
    """Names of the modules whose input is a stage's map before its last activation, from shallow to deep; empty if
    there are no such modules."""

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The map after each stage, and the embedding, which is the input of the classifier."""
        raise NotImplementedError

    def embed(self, images: Images) -> Embeddings:
        """The embedding, which is the input of the classifier."""
        return self.features(images)[1]

    def forward(self, images: Images) -> Logits:
        """The logits of images."""
        return self.classifier(self.embed(images))

    @torch.no_grad()
    def keep_outputs_(self, columns: Sequence[int]) -> None:
        """Keep only these outputs of the classifier, in this order."""
        layer = self.classifier
        assert isinstance(layer, nn.Linear)
        layer.out_features, rows = len(columns), list(columns)
        layer.weight = nn.Parameter(layer.weight[rows], layer.weight.requires_grad)
        layer.bias = nn.Parameter(layer.bias[rows], layer.bias.requires_grad)

    def redraw_own_(self, generator: torch.Generator) -> None:
        """Redraw, in place, the parameters that belong to no layer. Most networks have none."""

    def draw_layer_(self, layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
        """Redraw the parameters of a layer in place, as PyTorch does. Networks may override this."""
        draw_uniform_(layer, generator)


class Staged(Network):
    """A network with a stem, stages of convolutions, last layers, and the mean over places of their output."""

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
    """A staged network with convolutions from He's normal distribution (He et al., ICCV 2015, arXiv:1502.01852)."""

    head_spread: float | None = None
    """Standard deviation of the last layer's weights, with biases 0. Default: as in PyTorch."""

    @torch.no_grad()
    def draw_layer_(self, layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
        """Redraw convolutions from N(0, 2 / n), with n filters times kernel places for any groups; biases are 0."""
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
    """Redraw a layer in place as PyTorch does, from U(±1/√fan_in)."""
    bound = 1 / math.sqrt(layer.weight[0].numel())
    for parameter in layer.parameters(recurse=False):
        parameter.copy_(_in_order(parameter).uniform_(-bound, bound, generator=generator))


def _in_order(parameter: Tensor) -> Tensor:
    """An empty tensor in which draws follow the order of indices. They follow memory, which channels-last permutes."""
    return torch.empty_like(parameter, memory_format=torch.contiguous_format)


def norm_layer(name: Norm, filters: int, height: int, width: int) -> nn.Module:
    """A normalisation layer for this number of filters and this size of maps.

    Instance norm is omitted on maps of one place, because it would erase the only value.

    Raises:
        InputError: The norm is group norm, and the number of filters is not a multiple of four.
    """
    if name == "group" and filters % 4:
        raise InputError(f"group norm has 4 groups, but {filters} filters; give a multiple of 4.")
    makers: dict[Norm, Callable[[], nn.Module]] = {
        "none": nn.Identity,
        "batch": lambda: nn.BatchNorm2d(filters),
        "layer": lambda: nn.LayerNorm([filters, height, width]),
        "instance": lambda: InstanceNorm(filters) if height * width > 1 else nn.Identity(),
        "group": lambda: nn.GroupNorm(4, filters),
    }
    return makers[name]()


class InstanceNorm(nn.GroupNorm):
    """Group norm with a group for each filter.

    Compiled, its arithmetic is written out (`normalised`), because the compiler derives group norm through copies of
    the maps in another memory layout.
    """

    def __init__(self, filters: int) -> None:
        super().__init__(filters, filters)

    def forward(self, maps: Maps) -> Maps:
        """Normalised maps."""
        if torch.compiler.is_compiling():
            return normalised(maps, self.weight, self.bias, self.eps)
        return super().forward(maps)


def normalised(
    maps: Maps, weight: Float[Tensor, " filters"], bias: Float[Tensor, " filters"], eps: float = 1e-5
) -> Maps:
    """Maps with mean and variance over places that are given by bias and squared weight, computed in float32 or wider.

    Of maps in half precision the variance is that of squares less that of means, in one pass: what float32 loses there
    is less than what rounding the maps has lost.
    """
    wide = maps.to(torch.promote_types(maps.dtype, torch.float32))
    mean = wide.mean(dim=(2, 3), keepdim=True)
    if wide.dtype == maps.dtype:
        spread = wide.var(dim=(2, 3), correction=0, keepdim=True)
    else:
        spread = (wide.square().mean(dim=(2, 3), keepdim=True) - mean.square()).clamp_min(0)
    # The compiler keeps a reused exponential. It would compute a root again at every place.
    scale = weight.view(-1, 1, 1) * torch.exp(-0.5 * torch.log(spread + eps))
    return (wide * scale + (bias.view(-1, 1, 1) - mean * scale)).to(maps.dtype)


class AveragePool(nn.AvgPool2d):
    """Means over squares of 2×2 places. Compiled, they are means of a reshaped tensor, whose gradient is faster."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, maps: Maps) -> Halved:
        """Maps of half the height and width, rounded down."""
        return halved(maps) if torch.compiler.is_compiling() else super().forward(maps)


def halved(maps: Maps) -> Halved:
    """Means over squares of 2×2 places; an odd last row or column is left out."""
    height, width = maps.shape[2] // 2, maps.shape[3] // 2
    whole = maps[:, :, : 2 * height, : 2 * width]
    return whole.reshape(*maps.shape[:2], height, 2, width, 2).mean(dim=(3, 5))


def activation_layer(name: Activation) -> nn.Module:
    """An activation layer by name."""
    makers: dict[Activation, Callable[[], nn.Module]] = {
        "relu": nn.ReLU,
        "leakyrelu": lambda: nn.LeakyReLU(0.01),
        "sigmoid": nn.Sigmoid,
        "swish": nn.SiLU,
    }
    return makers[name]()


def is_padded_digit(shape: Shape) -> bool:
    """Whether images are padded to 32 pixels in the first layer, as in the field's code: one channel, 28×28.

    (That code pads one-channel images of any size by two more pixels. At 8×8 there would be more border than picture.)
    """
    return shape == (1, 28, 28)
