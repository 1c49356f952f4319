"""diffusers' UNet2DModel, configured by words, as a network of diffusion models.

Its weights are those of an ordinary UNet2DModel, so that diffusers opens what is saved. Samples without a label have an
embedding of their own, the last one.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.kinds import imported
from attar.core.settings import Range, Settings
from attar.samplers.networks import NO_LABEL, Shape, options_of

TIMES = 1000
"""The network is told 1,000 c_noise = 250 ln σ, as diffusers' scheduler of consistency models tells it."""
USUAL_DEPTH = 3


@dataclass(frozen=True, kw_only=True)
class UNetWords(Settings):
    """Settings of the U-Net, as words: unet:width=32,depth=3."""

    width: Annotated[int, Range(4, 4096)] = 32
    """Channels at full resolution, in steps of 4."""
    depth: Annotated[int, Range(0, 8)] = 0
    """Number of resolutions, each of half the side of the one before. 0: three, or as many as the sides allow."""
    growth: Annotated[int, Range(1, 8)] = 2
    """Channels at all lower resolutions, as a multiple of the width."""
    layers: Annotated[int, Range(1, 16)] = 2
    """Residual blocks at each resolution."""
    attention: Annotated[int, Range(0, 1024)] = 8
    """Largest side at which pixels attend to one another; the smallest resolution always does."""
    dropout: Annotated[float, Range(0, 0.9)] = 0.0
    """Share of a block's inner channels that is dropped in training."""


class UNet(nn.Module):
    """F(x, c_noise, labels) of diffusers' UNet2DModel.

    Args:
        model: The U-Net, with one class embedding more than there are classes if there are classes.
        classes: Number of classes; 0 of samples without labels.
    """

    def __init__(self, model: Any, classes: int) -> None:
        super().__init__()
        self.model, self.classes = model, classes

    def forward(
        self,
        x: Float[Tensor, "batch c h w"],
        noise: Float[Tensor, " _batch"],
        labels: Int[Tensor, " _batch"] | None = None,
    ) -> Float[Tensor, "batch c h w"]:
        """The output of the network.

        Args:
            x: Scaled samples c_in x.
            noise: c_noise = ln(σ) / 4 of each.
            labels: Class numbers; `NO_LABEL`, or None for all, of samples without.
        """
        found: Tensor = self.model(x, TIMES * noise, self.numbers(x, labels), return_dict=False)[0]
        return found

    def encoded(
        self,
        x: Float[Tensor, "batch c h w"],
        noise: Float[Tensor, " _batch"],
        labels: Int[Tensor, " _batch"] | None = None,
    ) -> Float[Tensor, "batch features y x"]:
        """The output of the middle block, after half of the network's work."""
        model, numbers = self.model, self.numbers(x, labels)
        told = model.time_embedding(model.time_proj(TIMES * noise).to(x.dtype))
        if numbers is not None:
            told = told + model.class_embedding(numbers)
        hidden = model.conv_in(x)
        for block in model.down_blocks:
            hidden, _ = block(hidden_states=hidden, temb=told)
        found: Tensor = model.mid_block(hidden, told)
        return found

    def numbers(self, x: Tensor, labels: Int[Tensor, " _batch"] | None) -> Int[Tensor, " _batch"] | None:
        """The embeddings' numbers: the labels, and the number of classes where there is no label."""
        if not self.classes:
            return None
        if labels is None:
            return torch.full((len(x),), self.classes, device=x.device)
        return torch.where(labels == NO_LABEL, self.classes, labels)


def unet(given: dict[str, str], shape: Shape, classes: int) -> UNet:
    """A U-Net with fresh parameters.

    Args:
        given: Its options in words.
        shape: Of a sample: channels, height, width.
        classes: Number of classes; 0 of samples without labels.

    Raises:
        InputError: Samples are no images, sides cannot be halved so often, an option is wrong, or diffusers is not
            installed.
    """
    how = options_of(UNetWords, "unet", given)
    if len(shape) != 3:
        raise InputError(f"unet takes images, but samples are of shape {list(shape)}. Give mlp.")
    configuration = configured(how, shape, classes)
    model = imported("diffusers:UNet2DModel", "samplers", needed_by="unet")(**configuration)
    if classes:
        with torch.no_grad():
            model.class_embedding.weight[classes] = 0
    return UNet(model, classes)


def configured(how: UNetWords, shape: Shape, classes: int) -> dict[str, Any]:
    """What UNet2DModel is given.

    Raises:
        InputError: The width is no multiple of 4, or the sides cannot be halved so often.
    """
    channels, height, width = shape
    most = halvings(math.gcd(height, width)) + 1
    depth = how.depth or min(USUAL_DEPTH, most)
    if how.width % 4:
        raise InputError(f"width of unet is {how.width}; it must be a multiple of 4.")
    if depth > most:
        raise InputError(
            f"depth of unet is {depth}, but images of {height}×{width} pixels can be halved {most - 1} times. Give "
            f"depth={most} or less."
        )
    widths = (how.width, *[how.width * how.growth] * (depth - 1))
    attend = [max(height, width) >> level <= how.attention for level in range(depth)]
    return {
        "sample_size": height if height == width else (height, width),
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": widths,
        "layers_per_block": how.layers,
        "down_block_types": tuple("AttnDownBlock2D" if one else "DownBlock2D" for one in attend),
        "up_block_types": tuple("AttnUpBlock2D" if one else "UpBlock2D" for one in reversed(attend)),
        "attention_head_dim": math.gcd(how.width, 64),
        "norm_num_groups": groups_of(how.width),
        "dropout": how.dropout,
        "num_class_embeds": classes + 1 if classes else None,
    }


def halvings(side: int) -> int:
    """How often a side can be halved."""
    return (side & -side).bit_length() - 1


def groups_of(width: int) -> int:
    """The most groups of equal size, of 4 channels or more, up to 32."""
    return next(groups for groups in range(min(32, width // 4), 0, -1) if width % groups == 0)
