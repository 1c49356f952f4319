"""The augmentation of methods that label with a teacher: random resized crops, flips, shuffled tiles, CutMix, Mixup.

Boxes are given as shares of the image and drawn separately from the images, so that a draw can be applied again.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.sending import sent

Images = Float[Tensor, "batch channel height width"]
Boxes = Float[Tensor, "batch 4"]
"""Left, top, right and bottom edges, as shares of the side."""

TRIES = 10
"""Number of tries for a box of the wanted area and aspect before the central square is taken, as in torchvision."""


def draw_boxes(
    count: int,
    generator: torch.Generator,
    *,
    smallest: float = 0.08,
    largest: float = 1.0,
    aspect: float = 4 / 3,
    oblong: float = 1.0,
) -> Boxes:
    """Draw boxes of random resized crops, with uniform area, uniform logarithm of the aspect and uniform place.

    Args:
        count: The number of boxes.
        generator: The generator that draws them.
        smallest: The smallest area, as a share of the image's area.
        largest: The largest area, as a share of the image's area.
        aspect: The largest ratio of width to height, in pixels, and of height to width; 1 for squares.
        oblong: The image's width divided by its height.
    """
    uniform = torch.rand(4, count, TRIES, generator=generator)
    return boxes_from(uniform, smallest=smallest, largest=largest, aspect=aspect, oblong=oblong)


def boxes_from(
    uniform: Float[Tensor, "4 batch tries"],
    *,
    smallest: float = 0.08,
    largest: float = 1.0,
    aspect: float = 4 / 3,
    oblong: float = 1.0,
) -> Boxes:
    """The boxes for given uniform numbers: area, aspect and place of each try (see `draw_boxes`)."""
    area, ratio, left, top = uniform
    area = smallest + (largest - smallest) * area
    ratio = torch.exp((2 * ratio - 1) * math.log(aspect)) / oblong
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (width <= 1) & (height <= 1)
    first = fits.int().argmax(dim=1, keepdim=True)
    width, height, left, top = (values.gather(1, first).squeeze(1) for values in (width, height, left, top))
    none = ~fits.any(dim=1)
    width, height = torch.where(none, _middle(1 / oblong), width), torch.where(none, _middle(oblong), height)
    left, top = (torch.where(none, 0.5, place) for place in (left, top))
    left, top = left * (1 - width), top * (1 - height)
    return torch.stack([left, top, left + width, top + height], dim=1)


def _middle(ratio: float) -> float:
    """The side, as a share, of the largest central square of an oblong image."""
    return min(1.0, ratio)


def resized_crop(images: Images, boxes: Boxes, *, flipped: Tensor | None = None) -> Images:
    """Scale a box of each image bilinearly to the size of the image, and mirror those that are `flipped`."""
    boxes, flipped = sent((boxes, flipped), images.device)
    boxes = boxes.to(images)
    scale = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + boxes[:, 2:] - 1
    if flipped is not None:
        scale = torch.stack([torch.where(flipped, -scale[:, 0], scale[:, 0]), scale[:, 1]], dim=1)
    theta = torch.cat([torch.diag_embed(scale), centre.unsqueeze(2)], dim=2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def crop_and_flip(images: Images, generator: torch.Generator, *, smallest: float = 0.08, flips: bool = True) -> Images:
    """A random resized crop of each image. It is mirrored with probability one half if `flips` is true."""
    boxes = draw_boxes(len(images), generator, smallest=smallest, oblong=images.shape[3] / images.shape[2])
    flipped = torch.rand(len(images), generator=generator) < 0.5
    return resized_crop(images, boxes, flipped=flipped if flips else None)


def shuffle_tiles(images: Images, tiles: int, generator: torch.Generator) -> Images:
    """Shuffle the columns of tiles of each image, then the rows, as in RDED's training."""
    if tiles == 1:
        return images
    for dim in (3, 2):
        strips = torch.stack(images.chunk(tiles, dim=dim), dim=1)
        order = torch.rand(len(images), tiles, generator=generator).argsort(dim=1).to(images.device)
        shuffled = strips[torch.arange(len(images), device=images.device).unsqueeze(1), order]
        images = torch.cat(shuffled.unbind(dim=1), dim=dim)
    return images


def cutmix(images: Images, generator: torch.Generator) -> tuple[Images, Int[Tensor, " batch"], float]:
    """Paste a box of a partner into each image: the same box for the whole batch, of area 1 - λ with λ uniform.

    Yun et al., CutMix, ICCV 2019, arXiv:1905.04899, as in SRe2L's and RDED's code (clipped at the borders).

    Returns:
        The images, the partner of each image, and the share of its area that an image keeps.
    """
    height, width = images.shape[2:]
    partner = torch.randperm(len(images), generator=generator)
    side, down, right = torch.rand(3, generator=generator).tolist()
    side = math.sqrt(1 - side)
    top, bottom = _clipped(int(down * height), int(height * side), height)
    left, right_edge = _clipped(int(right * width), int(width * side), width)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right_edge] = images[partner.to(images.device), :, top:bottom, left:right_edge]
    return mixed, partner, 1 - (bottom - top) * (right_edge - left) / (height * width)


def mixup(
    images: Images, generator: torch.Generator, alpha: float = 0.8
) -> tuple[Images, Int[Tensor, " batch"], float]:
    """Average each image with a partner. The image has weight λ from Beta(α, α), the same for the whole batch.

    Zhang et al., mixup, ICLR 2018, arXiv:1710.09412. α is as in SRe2L's and RDED's code.

    Returns:
        The images, the partner of each image, and λ.
    """
    partner = torch.randperm(len(images), generator=generator)
    # Two Gamma draws make a Beta draw; torch's own Beta takes no generator.
    first, second = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()
    share = first / (first + second)
    return share * images + (1 - share) * images[partner.to(images.device)], partner, share


def _clipped(centre: int, size: int, side: int) -> tuple[int, int]:
    return max(centre - size // 2, 0), min(centre + size // 2, side)
