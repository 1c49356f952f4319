"""Residual networks of the tables of distilled classifiers: CIFAR's ResNet, WideResNet and ResNet-50, five of ImageNet.

He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385.
Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016, arXiv:1605.07146.
All have batch norm, ReLU, and convolutions drawn from He's normal distribution by fan-out (`HeStaged`).
"""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from attar.images.networks.blocks import HeStaged, Maps, Network, Shape
from attar.images.networks.classics import LARGE_SIDE, BasicBlock

AfterBlock = Float[Tensor, "batch filters_after height_after width_after"]
NARROW, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
"""Numbers of filters of the stem and the three stages: those of He et al., and of the benchmark's `x4`."""


class ResNet(HeStaged):
    """A 3×3 stem and three stages of n basic blocks, 6n + 2 layers in all, for images of about 32 pixels.

    If a block changes the number of filters, its input is added through a 1×1 convolution with a norm. (He et al. pad
    it with zeros instead, which saves a few parameters.)
    """

    def __init__(self, shape: Shape, classes: int, *, depth: int, filters: tuple[int, int, int, int]) -> None:
        super().__init__()
        size, channels = (shape[1], shape[2]), filters[0]
        self.stem = nn.Sequential(_convolution(shape[0], channels), nn.BatchNorm2d(channels), nn.ReLU())
        self.stages = nn.ModuleList()
        for stage, wanted in enumerate(filters[1:]):
            blocks: list[nn.Module] = []
            for block in range((depth - 2) // 6):
                halved = stage > 0 and block == 0
                blocks.append(
                    BasicBlock(channels, wanted, size, halved=halved, pooled=False, norm="batch", act=nn.ReLU())
                )
                channels = wanted
            self.stages.append(nn.Sequential(*blocks))
        self.last = nn.Identity()
        self.classifier = nn.Linear(channels, classes)
        self.before_activation = tuple(f"stages.{stage}.{len(blocks) - 1}.activation" for stage in range(3))


class WideResNet(HeStaged):
    """WRN-d-k: a 3×3 stem of 16 filters, and three stages of (d - 4) / 6 pre-activation blocks, k times as wide.

    The map of the last stage is taken after the last norm and ReLU. The other maps are sums before any activation.
    """

    def __init__(self, shape: Shape, classes: int, *, depth: int, widening: int) -> None:
        super().__init__()
        channels, count = 16, (depth - 4) // 6
        self.stem = _convolution(shape[0], channels)
        self.stages = nn.ModuleList()
        for stage in range(3):
            wanted, blocks = 16 * 2**stage * widening, nn.Sequential()
            for block in range(count):
                blocks.append(PreactivationBlock(channels, wanted, stride=2 if stage > 0 and block == 0 else 1))
                channels = wanted
            self.stages.append(blocks)
        blocks.extend([nn.BatchNorm2d(channels), nn.ReLU()])
        self.last = nn.Identity()
        self.classifier = nn.Linear(channels, classes)
        self.before_activation = (
            "stages.1.0.first_activation",
            "stages.2.0.first_activation",
            f"stages.2.{count + 1}",
        )


class PreactivationBlock(nn.Module):
    """Norm, ReLU and a 3×3 convolution, twice, with the input added.

    If the number of filters changes, a 1×1 convolution of the input after its norm and ReLU is added instead.
    """

    def __init__(self, channels: int, filters: int, *, stride: int) -> None:
        super().__init__()
        self.first_norm, self.first_activation = nn.BatchNorm2d(channels), nn.ReLU()
        self.first = _convolution(channels, filters, stride)
        self.second_norm, self.second_activation = nn.BatchNorm2d(filters), nn.ReLU()
        self.second = _convolution(filters, filters)
        changes = stride > 1 or channels != filters
        self.shortcut = nn.Conv2d(channels, filters, 1, stride, bias=False) if changes else None

    def forward(self, x: Maps) -> AfterBlock:
        """The output of the block."""
        active = self.first_activation(self.first_norm(x))
        y = self.second(self.second_activation(self.second_norm(self.first(active))))
        return y + (x if self.shortcut is None else self.shortcut(active))


class FourStages(HeStaged):
    """ImageNet's ResNet: a stem, and four stages of basic blocks with 64 to 512 filters, or bottlenecks of 256 to 2048.

    The stem is 7×7 with stride 2 and max-pooling. For ResNet-50 on images below 160 pixels it is 3×3 without pooling,
    as in CIFAR-100's benchmark. Bottlenecks have their stride in the 3×3 convolution.

    Args:
        shape: The shape of the images.
        classes: The number of classes.
        counts: The number of blocks of each stage.
        bottlenecks: Whether the blocks are bottlenecks instead of basic blocks.
        large_from: The image side, in pixels, from which the stem is 7×7.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        *,
        counts: tuple[int, int, int, int] = (3, 4, 6, 3),
        bottlenecks: bool = True,
        large_from: int = 0,
    ) -> None:
        super().__init__()
        if min(shape[1:]) >= large_from:
            first = nn.Conv2d(shape[0], 64, 7, 2, padding=3, bias=False)
            self.stem = nn.Sequential(first, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
        else:
            self.stem = nn.Sequential(_convolution(shape[0], 64), nn.BatchNorm2d(64), nn.ReLU())
        self.stages = nn.ModuleList()
        channels, widening = 64, 4 if bottlenecks else 1
        make: Callable[..., nn.Module] = Bottleneck if bottlenecks else _basic
        for stage, count in enumerate(counts):
            blocks = nn.Sequential()
            for number in range(count):
                blocks.append(make(channels, 64 * 2**stage, stride=2 if stage > 0 and number == 0 else 1))
                channels = widening * 64 * 2**stage
            self.stages.append(blocks)
        self.last = nn.Identity()
        self.classifier = nn.Linear(channels, classes)
        self.before_activation = tuple(f"stages.{stage}.{count - 1}.activation" for stage, count in enumerate(counts))


class Bottleneck(nn.Module):
    """A 1×1, a 3×3 (with the stride) and a 1×1 convolution to four times the filters, with the input added."""

    def __init__(self, channels: int, filters: int, *, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, filters, 1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            _convolution(filters, filters, stride),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.Conv2d(filters, 4 * filters, 1, bias=False),
            nn.BatchNorm2d(4 * filters),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != 4 * filters:
            way = nn.Conv2d(channels, 4 * filters, 1, stride, bias=False)
            self.shortcut = nn.Sequential(way, nn.BatchNorm2d(4 * filters))
        self.activation = nn.ReLU()

    def forward(self, x: Maps) -> AfterBlock:
        """The output of the block."""
        return self.activation(self.layers(x) + self.shortcut(x))


def _basic(channels: int, filters: int, *, stride: int) -> BasicBlock:
    halved = stride > 1  # the size does not matter to batch norm
    return BasicBlock(channels, filters, (0, 0), halved=halved, pooled=False, norm="batch", act=nn.ReLU())


def _convolution(channels: int, filters: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False)


RESNETS: dict[str, Callable[[Shape, int], Network]] = {
    **{f"resnet{depth}": partial(ResNet, depth=depth, filters=NARROW) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": partial(ResNet, depth=depth, filters=WIDE) for depth in (8, 32)},
    "resnet50": partial(FourStages, large_from=LARGE_SIDE),
    **{f"wrn{depth}_{k}": partial(WideResNet, depth=depth, widening=k) for depth in (16, 40) for k in (1, 2)},
}
"""Residual networks by name: the number of layers, and the factor of the width."""
IMAGENET_RESNETS: dict[str, Callable[[Shape, int], Network]] = {
    "resnet18-imagenet": partial(FourStages, counts=(2, 2, 2, 2), bottlenecks=False),
    "resnet34-imagenet": partial(FourStages, counts=(3, 4, 6, 3), bottlenecks=False),
    "resnet50-imagenet": partial(FourStages, counts=(3, 4, 6, 3)),
    "resnet101-imagenet": partial(FourStages, counts=(3, 4, 23, 3)),
    "resnet152-imagenet": partial(FourStages, counts=(3, 8, 36, 3)),
}
"""ImageNet's residual networks by name, with ImageNet's stem for images of any size."""
