"""Networks for small machines, at the sizes of the tables of distilled classifiers: MobileNets and ShuffleNets.

Howard et al., MobileNets, arXiv:1704.04861.
Sandler, Howard, Zhu, Zhmoginov and Chen, MobileNetV2, CVPR 2018, arXiv:1801.04381.
Zhang, Zhou, Lin and Sun, ShuffleNet, CVPR 2018, arXiv:1707.01083.
Ma, Zhang, Zheng and Sun, ShuffleNet V2, ECCV 2018, arXiv:1807.11164.
The papers' networks halve an ImageNet picture five times, as MobileNetV1 does here. The others halve pictures of 32
pixels four or three times. The docstrings state other differences of the benchmark from the papers.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.images.networks.blocks import HeStaged, Maps, Network, Shape, Staged

AfterBlock = Float[Tensor, "batch filters_after height_after width_after"]


def _normed(
    channels: int, filters: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, active: bool = True
) -> list[nn.Module]:
    """A convolution without bias, batch norm, and ReLU if `active` is true."""
    convolution = nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(filters), *([nn.ReLU()] if active else [])]


# ------------------------------------------------------------------------------------------------------------ MobileNet


class MobileNetV1(Staged):
    """Thirteen blocks of a depthwise 3×3 and a 1×1 convolution, from 32 to 1024 filters, as in ImageNet's tables.

    The first convolution and block are the stem. Each stage halves its map at its beginning. Parameters are drawn as in
    PyTorch.
    """

    rows = (((128, 2), (128, 1)), ((256, 2), (256, 1)), ((512, 2), *((512, 1),) * 5), ((1024, 2), (1024, 1)))
    """Filters and stride of each block, by stage."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.stem, channels = nn.Sequential(*_normed(shape[0], 32, 3, stride=2), *_separable(32, 64)), 64
        self.stages = nn.ModuleList()
        for row in self.rows:
            blocks = nn.Sequential()
            for filters, stride in row:
                blocks.append(nn.Sequential(*_separable(channels, filters, stride=stride)))
                channels = filters
            self.stages.append(blocks)
        self.last = nn.Identity()
        self.classifier = nn.Linear(channels, classes)
        self.before_activation = tuple(f"stages.{stage}.{len(row) - 1}.5" for stage, row in enumerate(self.rows))


def _separable(channels: int, filters: int, *, stride: int = 1) -> list[nn.Module]:
    """A depthwise convolution with the stride, and a 1×1 convolution, each with batch norm and ReLU."""
    return [*_normed(channels, channels, 3, stride=stride, groups=channels), *_normed(channels, filters)]


class MobileNetV2(HeStaged):
    """Inverted residuals that widen six times, at half the paper's width, with the last convolution at full width.

    The benchmark's network has ReLU instead of the paper's ReLU6, no stride in the second row, and a widening
    convolution even if the factor is one. A stage lies between two halvings; the third one ends at 48 filters. Maps of
    stages are linear, so there is no map before an activation. Convolutions are drawn from He's normal distribution by
    fan-out, the classifier's weights with standard deviation 0.01.
    """

    head_spread = 0.01
    rows = (
        ((1, 8, 1, 1), (6, 12, 2, 1)),
        ((6, 16, 3, 2),),
        ((6, 32, 4, 2), (6, 48, 3, 1)),
        ((6, 80, 3, 2), (6, 160, 1, 1)),
    )
    """Factor of widening, filters, number of blocks and stride of the first block, by stage."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.stem, channels = nn.Sequential(*_normed(shape[0], 16, 3, stride=2)), 16
        self.stages = nn.ModuleList()
        for rows in self.rows:
            blocks = nn.Sequential()
            for widening, filters, count, stride in rows:
                for block in range(count):
                    blocks.append(InvertedResidual(channels, filters, widening, stride=1 if block else stride))
                    channels = filters
            self.stages.append(blocks)
        self.last = nn.Sequential(*_normed(channels, 1280))
        self.classifier = nn.Linear(1280, classes)
        self.before_activation = ("stages.1", "stages.2", "stages.3", "last")


class InvertedResidual(nn.Module):
    """A 1×1 convolution to more filters, a depthwise 3×3 convolution, and a linear 1×1 convolution to few filters."""

    def __init__(self, channels: int, filters: int, widening: int, *, stride: int) -> None:
        super().__init__()
        wide = widening * channels
        self.layers = nn.Sequential(
            *_normed(channels, wide),
            *_normed(wide, wide, 3, stride=stride, groups=wide),
            *_normed(wide, filters, active=False),
        )
        self.added = stride == 1 and channels == filters

    def forward(self, x: Maps) -> AfterBlock:
        """The output of the block. The input is added if the shape does not change."""
        return x + self.layers(x) if self.added else self.layers(x)


# ----------------------------------------------------------------------------------------------------------- ShuffleNet


class ChannelShuffle(nn.Module):
    """A shuffle of channels in g groups: the first channel of each group, then the second of each, and so on."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Maps) -> Maps:
        """The shuffled channels."""
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleNetV1(Staged):
    """Three stages of 4, 8 and 4 blocks with 240, 480 and 960 filters and 1×1 convolutions in 3 groups.

    The benchmark's network has a 1×1 stem without stride. It has a ReLU after the depthwise convolution; the paper has
    none. Parameters are drawn as in PyTorch.
    """

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.stem, channels = nn.Sequential(*_normed(shape[0], 24)), 24
        self.stages = nn.ModuleList()
        counts = (4, 8, 4)
        for filters, count in zip((240, 480, 960), counts, strict=True):
            blocks = nn.Sequential()
            for block in range(count):
                blocks.append(ShuffleBlock(channels, filters, groups=3, halved=block == 0))
                channels = filters
            self.stages.append(blocks)
        self.last = nn.Identity()
        self.classifier = nn.Linear(channels, classes)
        self.before_activation = tuple(f"stages.{stage}.{count - 1}.activation" for stage, count in enumerate(counts))


class ShuffleBlock(nn.Module):
    """A grouped 1×1 convolution, a shuffle, a depthwise 3×3 convolution and a grouped 1×1 convolution.

    The input is added to the output. A block that halves the map concatenates the pooled input instead. The 24 channels
    of the stem are too few for groups and are not grouped.
    """

    def __init__(self, channels: int, filters: int, *, groups: int, halved: bool) -> None:
        super().__init__()
        made = filters - channels if halved else filters
        narrow, stride, first = made // 4, 2 if halved else 1, 1 if channels == 24 else groups
        self.layers = nn.Sequential(
            *_normed(channels, narrow, groups=first),
            ChannelShuffle(first),
            *_normed(narrow, narrow, 3, stride=stride, groups=narrow),
            *_normed(narrow, made, groups=groups, active=False),
        )
        self.pool = nn.AvgPool2d(3, 2, padding=1) if halved else None
        self.activation = nn.ReLU()

    def forward(self, x: Maps) -> AfterBlock:
        """The output of the block."""
        y = self.layers(x)
        return self.activation(y + x if self.pool is None else torch.cat([y, self.pool(x)], dim=1))


class ShuffleNetV2(Staged):
    """Three stages of 4, 8 and 4 units with 116, 232 and 464 filters, then a 1×1 convolution to 1024: size 1.

    The benchmark's network has a 1×1 stem without stride. Half of a stage's map was activated in earlier units, so
    there is no map before an activation. Parameters are drawn as in PyTorch.
    """

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.stem, channels = nn.Sequential(*_normed(shape[0], 24)), 24
        self.stages = nn.ModuleList()
        for filters, count in ((116, 4), (232, 8), (464, 4)):
            units: list[nn.Module] = [HalvingUnit(channels, filters)]
            units += [SplitUnit(filters) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*units))
            channels = filters
        self.last = nn.Sequential(*_normed(channels, 1024))
        self.classifier = nn.Linear(1024, classes)
        self.before_activation = ("stages.1", "stages.2", "last")


class SplitUnit(nn.Module):
    """A unit that passes half of the channels through three convolutions, keeps the other half, and shuffles all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.layers = nn.Sequential(
            *_normed(half, half), *_normed(half, half, 3, groups=half, active=False), *_normed(half, half)
        )
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Maps) -> Maps:
        """The output of the unit."""
        kept, changed = x.chunk(2, dim=1)
        return self.shuffle(torch.cat([kept, self.layers(changed)], dim=1))


class HalvingUnit(nn.Module):
    """A unit that passes all channels through two branches, each to half of the filters at half size, and shuffles."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        half = filters // 2
        self.short = nn.Sequential(
            *_normed(channels, channels, 3, stride=2, groups=channels, active=False), *_normed(channels, half)
        )
        self.long = nn.Sequential(
            *_normed(channels, half), *_normed(half, half, 3, stride=2, groups=half, active=False), *_normed(half, half)
        )
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Maps) -> AfterBlock:
        """The output of the unit."""
        return self.shuffle(torch.cat([self.short(x), self.long(x)], dim=1))


MOBILES: dict[str, Callable[[Shape, int], Network]] = {
    "mobilenetv2": MobileNetV2,
    "shufflenetv1": ShuffleNetV1,
    "shufflenetv2": ShuffleNetV2,
}
"""Networks of CIFAR-100's benchmark by name."""
