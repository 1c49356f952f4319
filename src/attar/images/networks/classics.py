"""The other networks of the field's tables: AlexNet, VGG-11, ResNet-18 in two forms, LeNet and a small ViT.

At 32×32 (28×28 for digits) each has exactly the parameters of the released code of DC and DM. For other sizes they are
extended in the obvious way. All return the map after every stage, so that they can be used for distillation.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.images.networks.blocks import (
    Activation,
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

Tokens = Float[Tensor, "batch token feature"]

LARGE_SIDE = 160
"""Image side, in pixels, from which ResNet-18 has ImageNet's stem."""


class Stages(Network):
    """A network of convolutional stages whose embedding is the flattened last map."""

    stages: nn.ModuleList

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The map after each stage, and the flattened last map."""
        maps, x = [], images
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps, x.flatten(1)


class AlexNet(Stages):
    """Five convolutions with 128, 192, 256, 192 and 192 filters, three max-poolings, and one linear layer."""

    def __init__(self, shape: Shape, classes: int, *, norm: Norm, activation: Activation) -> None:
        super().__init__()
        channels, height, width = shape
        self.stages = nn.ModuleList()
        for filters, kernel, pooled in (
            (128, 5, True),
            (192, 5, True),
            (256, 3, False),
            (192, 3, False),
            (192, 3, True),
        ):
            padding = kernel // 2 + (2 if not self.stages and is_padded_digit(shape) else 0)
            height, width = height + 2 * padding - kernel + 1, width + 2 * padding - kernel + 1
            layers = [
                nn.Conv2d(channels, filters, kernel, padding=padding),
                norm_layer(norm, filters, height, width),
                activation_layer(activation),
            ]
            if pooled:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            self.stages.append(nn.Sequential(*layers))
            channels = filters
        _check_size("alexnet", shape, (height, width), smallest=8)
        self.classifier = nn.Linear(channels * height * width, classes)


class VGG11(Stages):
    """Eight 3×3 convolutions in five stages, each followed by max-pooling, and one linear layer.

    Below 32 pixels the last poolings are omitted, because the map would become empty.
    """

    def __init__(self, shape: Shape, classes: int, *, norm: Norm, activation: Activation) -> None:
        super().__init__()
        channels, height, width = shape
        self.stages = nn.ModuleList()
        for stage in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
            layers: list[nn.Module] = []
            for filters in stage:
                padding = 3 if not self.stages and is_padded_digit(shape) else 1
                height, width = height + 2 * padding - 2, width + 2 * padding - 2
                layers += [
                    nn.Conv2d(channels, filters, 3, padding=padding),
                    norm_layer(norm, filters, height, width),
                    activation_layer(activation),
                ]
                channels = filters
            if min(height, width) > 1:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            self.stages.append(nn.Sequential(*layers))
        self.classifier = nn.Linear(channels * height * width, classes)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with the input added.

    A block halves the map by its stride, or (`pooled`) by average pooling, which gives smoother gradients of pixels.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        size: tuple[int, int],
        *,
        halved: bool,
        pooled: bool,
        norm: Norm,
        act: nn.Module,
    ) -> None:
        super().__init__()
        stride = 2 if halved and not pooled else 1
        self.halving = nn.AvgPool2d(2) if halved and pooled else nn.Identity()
        after = _half(size, pooled=pooled) if halved else size
        self.first = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False)
        self.first_norm = norm_layer(norm, filters, *(size if pooled else after))
        self.second = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.second_norm = norm_layer(norm, filters, *after)
        self.shortcut: nn.Module = nn.Identity()
        if halved or channels != filters:
            way = nn.Conv2d(channels, filters, 1, stride, bias=False)
            self.shortcut = nn.Sequential(way, self.halving, norm_layer(norm, filters, *after))
        self.activation = act

    def forward(self, x: Maps) -> Float[Tensor, "batch filters_after height_after width_after"]:
        """The output of the block."""
        y = self.halving(self.activation(self.first_norm(self.first(x))))
        y = self.second_norm(self.second(y))
        return self.activation(y + self.shortcut(x))


class ResNet18(Network):
    """A stem and four stages of two basic blocks.

    For small images the stem is 3×3 without pooling, as usual in this literature. From 160 pixels on it is ImageNet's
    7×7 stem with stride 2 and max-pooling. The last map is averaged over places. In the average-pooled form,
    `resnet18-ap`, which serves to condense, the last map is flattened, as in DC's code.
    """

    def __init__(
        self, shape: Shape, classes: int, *, width: int, norm: Norm, activation: Activation, pooled: bool
    ) -> None:
        super().__init__()
        act = activation_layer(activation)
        large = min(shape[1:]) >= LARGE_SIDE
        size = (shape[1], shape[2])
        stem = nn.Conv2d(shape[0], width, 7 if large else 3, 2 if large else 1, padding=3 if large else 1, bias=False)
        size = _half(size) if large else size
        self.stem = nn.Sequential(stem, norm_layer(norm, width, *size), act)
        if large:
            self.stem.append(nn.MaxPool2d(3, 2, padding=1))
            size = _half(size)
        self.stages = nn.ModuleList()
        channels = width
        for stage in range(4):
            filters, blocks = width * 2**stage, []
            for block in range(2):
                halved = stage > 0 and block == 0
                blocks.append(BasicBlock(channels, filters, size, halved=halved, pooled=pooled, norm=norm, act=act))
                size, channels = _half(size, pooled=pooled) if halved else size, filters
            self.stages.append(nn.Sequential(*blocks))
        _check_size("resnet18-ap" if pooled else "resnet18", shape, size, smallest=8)
        self.gather = nn.Identity() if pooled else nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels * (size[0] * size[1] if pooled else 1), classes)

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The map after each stage, and the last map averaged or flattened."""
        maps, x = [], self.stem(images)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps, self.gather(x).flatten(1)


class LeNet(Network):
    """Two 5×5 convolutions with max-pooling, and three linear layers. It needs 16 pixels a side, 12 in one channel."""

    def __init__(self, shape: Shape, classes: int, *, activation: Activation) -> None:
        super().__init__()
        padding = 2 if shape[0] == 1 else 0
        height, width = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in shape[1:])
        _check_size("lenet", shape, (height, width), smallest=12 if padding else 16)
        act = activation_layer(activation)
        self.stages = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(shape[0], 6, 5, padding=padding), act, nn.MaxPool2d(2)),
                nn.Sequential(nn.Conv2d(6, 16, 5), act, nn.MaxPool2d(2)),
            ]
        )
        self.hidden = nn.Sequential(nn.Linear(16 * height * width, 120), act, nn.Linear(120, 84), act)
        self.classifier = nn.Linear(84, classes)

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The map after each pooling, and the output of the second hidden layer."""
        maps, x = [], images
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps, self.hidden(x.flatten(1))


class ViT(Network):
    """A vision transformer: patches, a class token, learned positions, norms before each half-block, no dropout.

    Papers that transfer to a small ViT do not give its sizes. `vit` has attar's own sizes: eight by eight patches, 192
    features, 6 blocks, 3 heads, and twice as many hidden features. `vit_s16` and `vit_b16` have the sizes of ImageNet's
    tables, with patches of 16 pixels (Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, arXiv:2010.11929;
    the small one is by Touvron et al., arXiv:2012.12877).

    Args:
        shape: The shape of the images.
        classes: The number of classes.
        width: The number of features.
        depth: The number of blocks.
        heads: The number of attention heads.
        widening: The number of hidden features of a block divided by the width.
        patch: The side of a patch, in pixels. Default: an eighth of the image's side.
        eps: What layer norm adds to variances. The released weights of ImageNet have 1e-6.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        *,
        width: int,
        depth: int,
        heads: int = 3,
        widening: int = 2,
        patch: int | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        channels, height, width_px = shape
        side = patch or max(1, min(height, width_px) // 8)
        if width % heads:
            raise InputError(f"a ViT of width {width} does not divide into {heads} heads; give a multiple of {heads}.")
        self.patches = nn.Conv2d(channels, width, side, side)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.zeros(1, 1 + (height // side) * (width_px // side), width))
        self.blocks = nn.ModuleList([TransformerBlock(width, heads, widening, eps) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps)
        self.classifier = nn.Linear(width, classes)

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The maps of the patches' features after each block, and the class token's features after the last norm."""
        grid = self.patches(images)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), grid.flatten(2).transpose(1, 2)], dim=1)
        tokens, maps = tokens + self.places, []
        for block in self.blocks:
            tokens = block(tokens)
            maps.append(tokens[:, 1:].transpose(1, 2).reshape(grid.shape))
        return maps, self.norm(tokens[:, 0])

    @torch.no_grad()
    def redraw_own_(self, generator: torch.Generator) -> None:
        """Redraw the class token and the positions: normal with standard deviation 0.02."""
        self.token.normal_(0, 0.02, generator=generator)
        self.places.normal_(0, 0.02, generator=generator)


class TransformerBlock(nn.Module):
    """Self-attention, then two linear layers. Each has a layer norm before it, and its input is added."""

    def __init__(self, width: int, heads: int, widening: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.first_norm, self.second_norm = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        hidden = widening * width
        self.hidden = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tokens) -> Tokens:
        """The output of the block."""
        tokens = tokens + self._attention(self.first_norm(tokens))
        return tokens + self.hidden(self.second_norm(tokens))

    def _attention(self, tokens: Tokens) -> Tokens:
        parts = self.queries_keys_values(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return self.mix(attended.transpose(1, 2).flatten(2))


def _half(size: tuple[int, int], *, pooled: bool = False) -> tuple[int, int]:
    """Half the size of a map, rounded up for a stride and down for pooling."""
    extra = 0 if pooled else 1
    return (size[0] + extra) // 2, (size[1] + extra) // 2


def _check_size(name: str, shape: Shape, size: tuple[int, int], *, smallest: int) -> None:
    if min(size) < 1:
        raise InputError(f"{name} needs images of at least {smallest}×{smallest}; these are {shape[2]}×{shape[1]}.")
