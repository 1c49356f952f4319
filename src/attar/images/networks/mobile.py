"""Networks for small machines, at the sizes of the tables of distilled classifiers: MobileNets and ShuffleNets.

Howard et al., MobileNets, arXiv:1704.04861.
Sandler, Howard, Zhu, Zhmoginov and Chen, MobileNetV2, CVPR 2018, arXiv:1801.04381.
Zhang, Zhou, Lin and Sun, ShuffleNet, CVPR 2018, arXiv:1707.01083.
Ma, Zhang, Zheng and Sun, ShuffleNet V2, ECCV 2018, arXiv:1807.11164.
The papers' networks halve an ImageNet picture five times, as MobileNetV1 does here; the others halve one of 32 pixels
four or three times. Where the benchmark departs from a paper otherwise, the docstring says so.
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
    """A convolution without bias, batch norm, and ReLU unless told not to."""
    convolution = nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(filters), *([nn.ReLU()] if active else [])]


# ------------------------------------------------------------------------------------------------------------ MobileNet


class MobileNetV1(Staged):
    """Thirteen blocks of a 3×3 convolution in each channel and a 1×1 one, from 32 to 1024 filters; ImageNet's tables'.

    The first convolution and block are the stem; each stage halves its map at its beginning. All is drawn as PyTorch
    draws it.
    """

    rows = (((128, 2), (128, 1)), ((256, 2), (256, 1)), ((512, 2), *((512, 1),) * 5), ((1024, 2), (1024, 1)))
    """By stage: filters and stride of each block."""

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
    """A convolution in each channel, which has the stride, and one across them; each with batch norm and ReLU."""
    return [*_normed(channels, channels, 3, stride=stride, groups=channels), *_normed(channels, filters)]


class MobileNetV2(HeStaged):
    """Inverted residuals that widen six times, at half the paper's width, the last convolution at full width.

    The benchmark's has ReLU where the paper has ReLU6, no stride in the second row, and widens by a convolution where
    the factor is one as well. Stages are what lies between two halvings, the third of them ending where the filters
    are 48. Their maps are linear, so that there is no activation to look before. Convolutions are drawn from He's
    normal distribution by fan-out, the classifier's weights with a spread of 0.01.
    """

    head_spread = 0.01
    rows = (
        ((1, 8, 1, 1), (6, 12, 2, 1)),
        ((6, 16, 3, 2),),
        ((6, 32, 4, 2), (6, 48, 3, 1)),
        ((6, 80, 3, 2), (6, 160, 1, 1)),
    )
    """By stage: how many times a block widens, its filters, how many blocks, the first one's stride."""

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
    """A 1×1 convolution to more filters, a 3×3 one in each of them, and a linear 1×1 one to few."""

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
        """One block; the input is added back where nothing changes its shape."""
        return x + self.layers(x) if self.added else self.layers(x)


# ----------------------------------------------------------------------------------------------------------- ShuffleNet


class ChannelShuffle(nn.Module):
    """Channels dealt out anew: of g groups of n, the first of each, the second of each, and so on."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Maps) -> Maps:
        """The same channels in another order."""
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleNetV1(Staged):
    """Three stages of 4, 8 and 4 blocks with 240, 480 and 960 filters, their 1×1 convolutions in 3 groups.

    The benchmark's has a 1×1 stem without stride and a ReLU after the convolution in each channel, where the paper has
    none. All is drawn as PyTorch draws it.
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
    """A grouped 1×1 convolution, a shuffle, a 3×3 one in each channel, a grouped 1×1 one.

    To that the input is added; a block that halves the map has the pooled input beside it instead. The stem's 24
    channels, too few for it, are not grouped.
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
        """One block."""
        y = self.layers(x)
        return self.activation(y + x if self.pool is None else torch.cat([y, self.pool(x)], dim=1))


class ShuffleNetV2(Staged):
    """Three stages of 4, 8 and 4 units with 116, 232 and 464 filters, then a 1×1 convolution to 1024: the size 1.

    The benchmark's has a 1×1 stem without stride. Half of a stage's map was activated in earlier units, so that there
    is no other map before its activation. All is drawn as PyTorch draws it.
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
    """Half of the channels pass as they are, the other half through three convolutions; then all are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.layers = nn.Sequential(
            *_normed(half, half), *_normed(half, half, 3, groups=half, active=False), *_normed(half, half)
        )
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Maps) -> Maps:
        """One unit."""
        kept, changed = x.chunk(2, dim=1)
        return self.shuffle(torch.cat([kept, self.layers(changed)], dim=1))


class HalvingUnit(nn.Module):
    """All channels pass two branches that halve the map, each to half of the filters; then they are shuffled."""

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
        """One unit."""
        return self.shuffle(torch.cat([self.short(x), self.long(x)], dim=1))


MOBILES: dict[str, Callable[[Shape, int], Network]] = {
    "mobilenetv2": MobileNetV2,
    "shufflenetv1": ShuffleNetV1,
    "shufflenetv2": ShuffleNetV2,
}
"""By name; of CIFAR-100's benchmark."""
