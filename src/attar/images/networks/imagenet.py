"""Networks by whose ImageNet weights others are known: VGG with three linear layers, MobileNetV2, EfficientNet-Lite0.

They are here so that weights of other packages can be read (`attar import teacher`), and serve as students too.
Dropout before linear layers is left out. CIFAR's forms of ResNet stand beside them: a 3×3 stem without pooling at any
size, which is what packages of condensed sets observe small images with.
Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015, arXiv:1409.1556.
Sandler, Howard, Zhu, Zhmoginov and Chen, MobileNetV2, CVPR 2018, arXiv:1801.04381.
Tan and Le, EfficientNet, ICML 2019, arXiv:1905.11946. (Lite: without squeeze-and-excitation, ReLU6 for swish.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import nn

from attar.core.errors import InputError
from attar.images.networks.blocks import Embeddings, Images, Maps, Network, Shape
from attar.images.networks.resnets import AfterBlock, FourStages

NEVER = 10**6
"""An image side that no image has."""

# ------------------------------------------------------------------------------------------------------------------ VGG

FILTERS = (64, 128, 256, 512, 512)
GRID, HIDDEN = 7, 4096
"""Side of the map before the linear layers, and the number of their units."""
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions of each stage, by the number of layers."""


class DeepVGG(Network):
    """Five stages of 3×3 convolutions, each followed by max-pooling, and three linear layers, as in the paper.

    The last map is averaged to 7×7 places, so that images of other sizes than 224 pixels are possible, from 32 on. The
    embedding is the output of the second linear layer.
    """

    def __init__(self, shape: Shape, classes: int, *, depth: int, normed: bool) -> None:
        super().__init__()
        if min(shape[1:]) < 32:
            raise InputError(f"vgg{depth}-imagenet needs images of at least 32×32; these are {shape[2]}×{shape[1]}.")
        self.stages, channels = nn.ModuleList(), shape[0]
        for filters, count in zip(FILTERS, CONVOLUTIONS[depth], strict=True):
            stage = nn.Sequential()
            for _ in range(count):
                stage.append(nn.Conv2d(channels, filters, 3, padding=1))
                stage.extend([nn.BatchNorm2d(filters)] if normed else [])
                stage.append(nn.ReLU())
                channels = filters
            self.stages.append(stage)
        self.pool, self.gather = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(GRID)
        first = nn.Linear(channels * GRID**2, HIDDEN)
        self.hidden = nn.Sequential(first, nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
        self.classifier = nn.Linear(HIDDEN, classes)
        each = 3 if normed else 2
        self.before_activation = tuple(
            f"stages.{stage}.{count * each - 1}" for stage, count in enumerate(CONVOLUTIONS[depth])
        )

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The map after each stage, before pooling, and the output of the second linear layer."""
        maps, x = [], images
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
            x = self.pool(x)
        return maps, self.hidden(self.gather(x).flatten(1))


# --------------------------------------------------------------------------------------------------- inverted residuals


@dataclass(frozen=True)
class Row:
    """Equal blocks one after another; the first has the stride."""

    kernel: int
    stride: int
    widening: int
    filters: int
    count: int


MOBILENET_V2 = (
    Row(3, 1, 1, 16, 1),
    Row(3, 2, 6, 24, 2),
    Row(3, 2, 6, 32, 3),
    Row(3, 2, 6, 64, 4),
    Row(3, 1, 6, 96, 3),
    Row(3, 2, 6, 160, 3),
    Row(3, 1, 6, 320, 1),
)
"""The table of the MobileNetV2 paper."""
EFFICIENTNET_B0 = (
    Row(3, 1, 1, 16, 1),
    Row(3, 2, 6, 24, 2),
    Row(5, 2, 6, 40, 2),
    Row(3, 2, 6, 80, 3),
    Row(5, 1, 6, 112, 3),
    Row(5, 2, 6, 192, 4),
    Row(3, 1, 6, 320, 1),
)
"""The table of the EfficientNet paper."""


class InvertedResiduals(Network):
    """A 3×3 stem with stride 2, inverted residuals by a table, a 1×1 convolution to 1,280 filters, and ReLU6.

    The maps are the outputs of the last block before each halving, and of the last block. They are linear, so there is
    no map before an activation but the last.

    Args:
        shape: The shape of the images.
        classes: The number of classes.
        rows: The table.
        eps: What batch norm adds to variances.
        after: Whether odd padding goes behind the image (TensorFlow) and not around it.
    """

    def __init__(
        self, shape: Shape, classes: int, *, rows: tuple[Row, ...], eps: float = 1e-5, after: bool = False
    ) -> None:
        super().__init__()
        how: dict[str, Any] = {"eps": eps, "after": after}
        channels = 32
        self.stem = nn.Sequential(*_layer(shape[0], channels, 3, stride=2, **how))
        self.blocks = nn.ModuleList()
        for row in rows:
            for number in range(row.count):
                stride = 1 if number else row.stride
                self.blocks.append(LinearBottleneck(channels, row, stride=stride, **how))
                channels = row.filters
        strides = [1 if number else row.stride for row in rows for number in range(row.count)]
        self.ends = (*(place for place, stride in enumerate(strides[1:]) if stride > 1), len(strides) - 1)
        self.last = nn.Sequential(*_layer(channels, 1280, 1, **how))
        self.classifier = nn.Linear(1280, classes)

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The maps before each halving and at the end, and the mean over the places of the last convolution."""
        maps, x = [], self.stem(images)
        for place, block in enumerate(self.blocks):
            x = block(x)
            if place in self.ends:
                maps.append(x)
        return maps, self.last(x).mean(dim=(2, 3))


class LinearBottleneck(nn.Module):
    """A 1×1 convolution to more filters (if there are more), a depthwise one, and a linear 1×1 one to few filters."""

    def __init__(self, channels: int, row: Row, *, stride: int, eps: float, after: bool) -> None:
        super().__init__()
        wide = row.widening * channels
        how: dict[str, Any] = {"eps": eps, "after": after}
        self.layers = nn.Sequential(
            *(_layer(channels, wide, 1, **how) if row.widening > 1 else []),
            *_layer(wide, wide, row.kernel, stride=stride, groups=wide, **how),
            *_layer(wide, row.filters, 1, active=False, **how),
        )
        self.added = stride == 1 and channels == row.filters

    def forward(self, x: Maps) -> AfterBlock:
        """The output of the block. The input is added if the shape does not change."""
        return x + self.layers(x) if self.added else self.layers(x)


class PaddedBehind(nn.Conv2d):
    """A convolution whose output has the size of its input divided by the stride; odd padding goes behind, not before.

    That is TensorFlow's padding SAME.
    """

    def forward(self, x: Maps) -> AfterBlock:
        """The output."""
        sides = [side for size in reversed(x.shape[2:]) for side in self._around(size)]
        return super().forward(F.pad(x, sides))

    def _around(self, size: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        added = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return added // 2, added - added // 2


def _layer(
    channels: int,
    filters: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    active: bool = True,
    eps: float,
    after: bool,
) -> list[nn.Module]:
    """A convolution without bias, batch norm, and ReLU6 if `active` is true."""
    kind, padding = (PaddedBehind, 0) if after and kernel > 1 else (nn.Conv2d, kernel // 2)
    convolution = kind(channels, filters, kernel, stride, padding=padding, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(filters, eps=eps), *([nn.ReLU6()] if active else [])]


_BLOCKS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
"""Blocks of each stage of a ResNet, and whether they are bottlenecks, by the number of layers."""

RELEASED: dict[str, Callable[[Shape, int], Network]] = {
    **{f"vgg{depth}-imagenet": partial(DeepVGG, depth=depth, normed=False) for depth in CONVOLUTIONS},
    **{f"vgg{depth}-bn-imagenet": partial(DeepVGG, depth=depth, normed=True) for depth in CONVOLUTIONS},
    "mobilenetv2-imagenet": partial(InvertedResiduals, rows=MOBILENET_V2),
    "efficientnet-lite0": partial(InvertedResiduals, rows=EFFICIENTNET_B0, eps=1e-3, after=True),
    **{
        f"resnet{depth}-cifar": partial(FourStages, counts=counts, bottlenecks=bottlenecks, large_from=NEVER)
        for depth, (counts, bottlenecks) in _BLOCKS.items()
    },
}
"""The networks of this file by name."""
