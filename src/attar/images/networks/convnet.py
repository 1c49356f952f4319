"""The field's own networks: the ConvNet, which nearly all published numbers use, and an MLP."""

import math
from typing import Literal

from torch import nn

from attar.core.errors import InputError
from attar.images.networks.blocks import (
    Activation,
    AveragePool,
    Embeddings,
    Images,
    Maps,
    Network,
    Norm,
    Shape,
    activation_layer,
    is_padded_digit,
    norm_layer,
)


class ConvNet(Network):
    """`depth` blocks of 3×3 convolution, norm, activation and 2×2 pooling, then a linear layer.

    One-channel images of 28×28 are padded to 32×32 in the first block, as in the field's code.
    """

    def __init__(
        self, shape: Shape, classes: int, *, width: int, depth: int, norm: Norm, activation: Activation, pooling: str
    ) -> None:
        super().__init__()
        channels, height, width_left = shape
        self.blocks = nn.ModuleList()
        for block in range(depth):
            padding = 3 if block == 0 and is_padded_digit(shape) else 1
            height, width_left = height + 2 * padding - 2, width_left + 2 * padding - 2
            layers = [
                nn.Conv2d(channels, width, 3, padding=padding),
                norm_layer(norm, width, height, width_left),
                activation_layer(activation),
            ]
            self.blocks.append(nn.Sequential(*layers))
            channels = width
            if pooling != "none":
                height, width_left = height // 2, width_left // 2
        if min(height, width_left) < 1:
            raise InputError(
                f"depth is {depth}, too large for {shape[2]}×{shape[1]} images: the last map would be empty. "
                "Give a smaller depth."
            )
        self.pool = {"avg": AveragePool(), "max": nn.MaxPool2d(2), "none": nn.Identity()}[pooling]
        self.classifier = nn.Linear(channels * height * width_left, classes)

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The map after each block's activation, before pooling, and the flattened output of the last pooling."""
        maps, x = [], images
        for block in self.blocks:
            x = block(x)
            maps.append(x)
            x = self.pool(x)
        return maps, x.flatten(1)


class MLP(Network):
    """Hidden layers on flattened pixels, two by custom; with batch norm, if it is asked for, after the activation.

    That is the order of the MLPs of EnsLoss (Dai, ICML 2025, arXiv:2409.00908).
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        *,
        width: int,
        activation: Activation,
        depth: int = 2,
        norm: Literal["none", "batch"] = "none",
    ) -> None:
        super().__init__()
        sizes = [math.prod(shape), *(width for _ in range(depth))]
        self.hidden = nn.ModuleList(nn.Linear(size, width) for size in sizes[:-1])
        self.activation = activation_layer(activation)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) if norm == "batch" else nn.Identity() for _ in range(depth))
        self.classifier = nn.Linear(width, classes)

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """No maps, because an MLP has none, and the input of the last linear layer."""
        x = images.flatten(1)
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = norm(self.activation(layer(x)))
        return [], x
