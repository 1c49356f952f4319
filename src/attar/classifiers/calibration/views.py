"""Transformed copies of images, from whose predictions a temperature is read.

Nothing is drawn: the copies are the same whenever they are made. The functions take pixels
from 0 to 1 and can stand in a network's forward pass.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

from attar.classifiers.calibration.calibration import Images

Transform = Literal["rotation", "grey", "jitter", "dim", "blur"]

ANGLE = 15.0
"""Degrees of the rotation."""
STRENGTH = 0.4
"""Change of brightness, contrast and saturation."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, by ITU-R 601."""
IN_COLOUR: tuple[Transform, ...] = ("rotation", "grey", "jitter")
IN_GREY: tuple[Transform, ...] = ("rotation", "dim", "blur")
"""Transforms of images without colours, which grey leaves as they are."""


def usual(channels: int) -> tuple[Transform, ...]:
    """The transforms for images of so many channels."""
    return IN_COLOUR if channels == len(LUMA) else IN_GREY


def copies(images: Images, transforms: Sequence[Transform] = ()) -> list[Images]:
    """One copy of the images for each transform.

    Args:
        images: Images with pixels from 0 to 1.
        transforms: The transforms. Default: those for images of so many channels.
    """
    made = {"rotation": rotation, "grey": grey, "jitter": jitter, "dim": dim, "blur": blur}
    return [made[name](images) for name in transforms or usual(images.shape[1])]


def rotation(images: Images, degrees: float = ANGLE) -> Images:
    """Images that are rotated about their centre, bilinearly. What comes from outside is black."""
    height, width = images.shape[2:]
    angle = math.radians(degrees)
    across, down = math.sin(angle) * height / width, math.sin(angle) * width / height
    rows = [[math.cos(angle), -across, 0.0], [down, math.cos(angle), 0.0]]
    theta = torch.tensor(rows, dtype=images.dtype, device=images.device).expand(len(images), 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def grey(images: Images) -> Images:
    """Images without their colours: the luminance, or the mean over channels that are not three."""
    weights = LUMA if images.shape[1] == len(LUMA) else [1 / images.shape[1]] * images.shape[1]
    brightness = torch.einsum("bchw,c->bhw", images, torch.tensor(weights).to(images))
    return brightness[:, None].expand_as(images)


def jitter(images: Images, strength: float = STRENGTH) -> Images:
    """Images with more brightness, contrast and saturation, each by one factor, cut at 0 and 1."""
    factor = 1 + strength
    images = (factor * images).clamp(0, 1)
    mean = grey(images).mean(dim=(1, 2, 3), keepdim=True)
    images = torch.lerp(mean.expand_as(images), images, factor).clamp(0, 1)
    return torch.lerp(grey(images), images, factor).clamp(0, 1)


def dim(images: Images, strength: float = STRENGTH) -> Images:
    """Darker images."""
    return (1 - strength) * images


def blur(images: Images) -> Images:
    """Images after a binomial filter of three by three pixels."""
    channels = images.shape[1]
    line = torch.tensor([0.25, 0.5, 0.25]).to(images)
    kernel = (line[:, None] * line).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)
