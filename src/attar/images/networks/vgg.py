"""VGG with batch norm and one linear layer, as in the tables of distilled classifiers: 8, 11, 13, 16 and 19 layers.

It differs from `vgg11`, which the tables of condensed sets use. Convolutions are drawn from He's normal distribution by
fan-out, the classifier's weights with standard deviation 0.01.
Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015, arXiv:1409.1556.
The network of 8 layers is the benchmark's own.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from attar.images.networks.blocks import HeStaged, Network, Shape

FILTERS = (64, 128, 256, 512, 512)
LAST_POOLING_FROM = 64
"""Image side, in pixels, from which maps are also pooled before the last stage."""


class VGG(HeStaged):
    """Blocks of 3×3 convolutions with 64, 128, 256, 512 and 512 filters, and max-pooling between them.

    The first block is the stem and the others are the stages, so that there are as many stages as in ResNet-50. Maps
    are pooled at the beginning of a stage; before the last stage only for images of 64 pixels and more.
    """

    head_spread = 0.01

    def __init__(self, shape: Shape, classes: int, *, convolutions: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        blocks, channels = [], shape[0]
        for place, (filters, count) in enumerate(zip(FILTERS, convolutions, strict=True)):
            pooled = place in (1, 2, 3) or (place == 4 and min(shape[1:]) >= LAST_POOLING_FROM)
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if pooled else []
            for _ in range(count):
                layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU()]
                channels = filters
            blocks.append(nn.Sequential(*layers))
        self.stem, *stages = blocks
        self.stages = nn.ModuleList(stages)
        self.last = nn.Identity()
        self.classifier = nn.Linear(channels, classes)
        self.before_activation = tuple(f"stages.{number}.{len(stage) - 1}" for number, stage in enumerate(stages))


VGGS: dict[str, Callable[[Shape, int], Network]] = {
    "vgg8-bn": partial(VGG, convolutions=(1, 1, 1, 1, 1)),
    "vgg11-bn": partial(VGG, convolutions=(1, 1, 2, 2, 2)),
    "vgg13-bn": partial(VGG, convolutions=(2, 2, 2, 2, 2)),
    "vgg16-bn": partial(VGG, convolutions=(2, 2, 3, 3, 3)),
    "vgg19-bn": partial(VGG, convolutions=(2, 2, 4, 4, 4)),
}
"""VGG networks by name. The number in the name counts layers as with the paper's three linear layers."""
