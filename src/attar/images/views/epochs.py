"""Views of a whole epoch: crop, flip and mixing. They are not stored, because they can be drawn again.

Every number depends only on seed and epoch. With these two, each image of a set has the same view as when the teacher
labelled it, in any order and any batches. The partner of an image is drawn from a random order of the whole set, not of
a batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.seeds import permutation, uniform
from attar.core.sending import sent
from attar.images.views.crops import TRIES, Boxes, boxes_from, resized_crop

Images = Float[Tensor, "batch channel height width"]
Rows = Int[Tensor, " batch"]
Mix = Literal["none", "cutmix", "mixup"]

MIXUP = 0.8
"""Parameter α of Mixup's Beta(α, α), as in SRe2L's code."""


@dataclass(frozen=True)
class Views:
    """The views of every image of a set in one epoch."""

    boxes: Boxes
    flipped: Bool[Tensor, " image"] | None
    partner: Int[Tensor, " image"] | None = None
    """Image whose view is mixed into each image's view."""
    share: Float[Tensor, " image"] | None = None
    """Weight of the image itself in Mixup."""
    pasted: Int[Tensor, "image 4"] | None = None
    """Box of the partner in CutMix, in pixels."""

    def shown(self, inputs: Callable[[Tensor, torch.device], Tensor], rows: Rows, device: torch.device) -> Images:
        """The views of some images.

        Args:
            inputs: A function that returns the network input of rows on a device.
            rows: The rows of the images.
            device: The device.
        """
        images = self._cropped(inputs, rows, device)
        if self.partner is None:
            return images
        others = self._cropped(inputs, self.partner[rows], device)
        if self.share is not None:
            return torch.lerp(others, images, sent(self.share[rows], device).view(-1, 1, 1, 1))
        assert self.pasted is not None
        return torch.where(inside(sent(self.pasted[rows], device), images), others, images)

    def _cropped(self, inputs: Callable[[Tensor, torch.device], Tensor], rows: Rows, device: torch.device) -> Images:
        flipped = None if self.flipped is None else self.flipped[rows]
        boxes, flipped = sent((self.boxes[rows], flipped), device)
        return resized_crop(inputs(rows, device), boxes, flipped=flipped)


def draw_views(
    seed: int,
    epoch: int,
    count: int,
    size: tuple[int, int],
    *,
    mix: Mix = "cutmix",
    smallest: float = 0.08,
    flips: bool = True,
) -> Views:
    """The views of an epoch, which are the same each time.

    Args:
        seed: The seed of all epochs.
        epoch: The number of the epoch, counted from zero.
        count: The number of images in the set.
        size: Height and width of the images.
        mix: Whether to paste a box of a partner into each image (cutmix), to average with it (mixup), or neither.
        smallest: The smallest area of a crop, as a share of the image's area.
        flips: Whether to mirror half of the images.
    """
    boxes = boxes_from(uniform(seed, f"boxes {epoch}", 4, count, TRIES), smallest=smallest, oblong=size[1] / size[0])
    flipped = uniform(seed, f"flips {epoch}", count) < 0.5 if flips else None
    if mix == "none":
        return Views(boxes, flipped)
    partner = permutation(seed, f"partners {epoch}", count)
    mixing = uniform(seed, f"mixing {epoch}", 3, count)
    if mix == "mixup":
        return Views(boxes, flipped, partner, share=beta_from(mixing[0]))
    return Views(boxes, flipped, partner, pasted=pasted_from(mixing, size))


def beta_from(quantiles: Float[Tensor, " image"], alpha: float = MIXUP) -> Float[Tensor, " image"]:
    """Draws from Beta(α, α), computed from uniform draws."""
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, quantiles.double().numpy())).float()


def pasted_from(uniforms: Float[Tensor, "3 image"], size: tuple[int, int]) -> Int[Tensor, "image 4"]:
    """A box for each image, of area 1 - λ with a random centre, clipped at the borders (Yun et al., arXiv:1905.04899).

    λ is the first of the three numbers, which is uniform as in the paper. The others are those of the centre.
    """
    side = (1 - uniforms[0]).sqrt()
    edges = []
    for place, length in zip(uniforms[1:], size, strict=True):
        centre, half = (place * length).long(), (side * length).long() // 2
        edges += [(centre - half).clamp_min(0), (centre + half).clamp_max(length)]
    top, bottom, left, right = edges
    return torch.stack([left, top, right, bottom], dim=1)


def inside(boxes: Int[Tensor, "batch 4"], images: Images) -> Bool[Tensor, "batch 1 height width"]:
    """Whether each pixel is inside the box of its image."""
    height, width = images.shape[2:]
    left, top, right, bottom = boxes.unsqueeze(2).unbind(dim=1)
    across, down = (torch.arange(length, device=images.device) for length in (width, height))
    columns, rows = (across >= left) & (across < right), (down >= top) & (down < bottom)
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)


def own_share(views: Views, size: tuple[int, int]) -> Float[Tensor, " image"]:
    """The share of each view that belongs to the image itself."""
    if views.pasted is not None:
        left, top, right, bottom = views.pasted.unbind(dim=1)
        return 1 - (right - left) * (bottom - top) / math.prod(size)
    return torch.ones(len(views.boxes)) if views.share is None else views.share
