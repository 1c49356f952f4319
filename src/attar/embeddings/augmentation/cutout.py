"""Cutout: a square of an image is painted over.

DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017, arXiv:1708.04552.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from attar.embeddings.augmentation.shared import Images

Fill = Literal["random", "mean", "black"]
Colours = Float[Tensor, "batch channel 1 1"]


def cut_out(images: Images, share: float, centres: Float[Tensor, "batch 2"], fill: Colours) -> Images:
    """Paint a rectangle of each image, which is cut off at the borders.

    Args:
        images: The images.
        share: Its sides, as a share of the image's.
        centres: Its centre, as a share of height and width.
        fill: Its colour.
    """
    covered = torch.ones((), dtype=torch.bool, device=images.device)
    for axis, side in enumerate(images.shape[2:]):
        size = int(share * side + 0.5)
        first = (centres[:, axis, None].to(images) * side).long() - size // 2
        places = torch.arange(side, device=images.device)
        inside = (places >= first) & (places < first + size)
        covered = covered & (inside[:, :, None] if axis == 0 else inside[:, None, :])
    return torch.where(covered.unsqueeze(1), fill.to(images), images)


def fill_of(images: Images, kind: Fill, generator: torch.Generator) -> Colours:
    """The colour that each image is painted over with: a random one, its own mean, or black."""
    if kind == "random":
        return torch.rand(*images.shape[:2], 1, 1, generator=generator).to(images)
    mean = images.mean(dim=(2, 3), keepdim=True)
    return mean if kind == "mean" else torch.zeros_like(mean)
