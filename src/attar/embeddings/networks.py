"""The networks of few-shot learning: Conv-4 and ResNet-12.

Conv-4 is that of Vinyals et al., Matching Networks, NeurIPS 2016, arXiv:1606.04080, and of Snell et al., Prototypical
Networks, NeurIPS 2017, arXiv:1703.05175. ResNet-12 is that of Oreshkin et al., TADAM, NeurIPS 2018, arXiv:1805.10123,
with 64 to 512 filters, as in Ye et al., FEAT, CVPR 2020, arXiv:1812.03664, whose wider form has 64, 160, 320 and 640.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.settings import Range, Settings
from attar.images.networks.architecture import redraw_
from attar.images.networks.blocks import Embeddings, HeStaged, Images, Maps, Network, Shape

BlockMaps = Float[Tensor, "batch filters_after height_after width_after"]
SLOPE = 0.1
BLOCKS = 4


@dataclass(frozen=True, kw_only=True)
class Backbone(Settings):
    """Settings of these networks, as words: conv4:width=64."""

    width: Annotated[int, Range(1, 1024)] = 64
    """Filters of the first block. Those of Conv-4 are as wide; those of ResNet-12 double from block to block."""

    def build(self, name: str, shape: Shape, generator: torch.Generator) -> Network:
        """The network of a name, with fresh parameters and without a classifier."""
        with torch.random.fork_rng(devices=[]):
            network = BACKBONES[name](shape, self.width)
        redraw_(network, generator)
        return network


class Conv4(Network):
    """Four blocks of a 3×3 convolution, batch norm, ReLU and 2×2 max-pooling.

    Where the map has become one place wide or high, poolings are omitted.
    """

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        channels, side = shape[0], min(shape[1:])
        self.blocks = nn.ModuleList()
        for _ in range(BLOCKS):
            layers = [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            self.blocks.append(nn.Sequential(*layers, _pooling(side)))
            channels, side = width, max(1, side // 2)
        self.classifier = nn.Identity()

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The map after each block, and the flattened last map."""
        return _through(self.blocks, images)


class ResNet12(HeStaged):
    """Four blocks of three 3×3 convolutions with LeakyReLU of slope 0.1, and 2×2 max-pooling after the residual sum."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        channels, side = shape[0], min(shape[1:])
        self.blocks = nn.ModuleList()
        for place in range(BLOCKS):
            self.blocks.append(ResidualBlock(channels, width * 2**place, _pooling(side)))
            channels, side = width * 2**place, max(1, side // 2)
        self.classifier = nn.Identity()

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The map after each block, and the flattened last map."""
        return _through(self.blocks, images)


class ResidualBlock(nn.Module):
    """Three 3×3 convolutions and a 1×1 shortcut, each with batch norm; LeakyReLU after the sum, then pooling."""

    def __init__(self, channels: int, filters: int, pooling: nn.Module) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(3):
            layers += [nn.Conv2d(channels if number == 0 else filters, filters, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(filters), *([nn.LeakyReLU(SLOPE)] if number < 2 else [])]
        self.layers = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(nn.Conv2d(channels, filters, 1, bias=False), nn.BatchNorm2d(filters))
        self.activation, self.pooling = nn.LeakyReLU(SLOPE), pooling

    def forward(self, x: Maps) -> BlockMaps:
        """The output of the block."""
        return self.pooling(self.activation(self.layers(x) + self.shortcut(x)))


BACKBONES = {"conv4": Conv4, "resnet12": ResNet12}
"""The networks by name."""


def _pooling(side: int) -> nn.Module:
    return nn.MaxPool2d(2) if side > 1 else nn.Identity()


def _through(blocks: nn.ModuleList, images: Images) -> tuple[list[Maps], Embeddings]:
    maps, x = [], images
    for block in blocks:
        x = block(x)
        maps.append(x)
    return maps, x.flatten(1)
