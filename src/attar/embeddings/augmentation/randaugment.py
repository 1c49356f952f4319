"""RandAugment: n of fourteen changes of an image, one after the other, all of the same magnitude.

Cubuk, Zoph, Shlens and Le, RandAugment: Practical Automated Data Augmentation with a Reduced Search Space, CVPR
Workshops 2020, arXiv:1909.13719. Ranges are torchvision's: magnitudes run from 0 to 30.
"""

from collections.abc import Callable

import torch

from attar.core.sending import sent
from attar.embeddings.augmentation.affine import turned, warped
from attar.embeddings.augmentation.blur import sharpened
from attar.embeddings.augmentation.colours import (
    autocontrasted,
    brightness,
    contrast,
    equalised,
    posterized,
    saturation,
    solarised,
)
from attar.embeddings.augmentation.shared import Images, PerImage, grouped

MOST = 30
"""The largest magnitude."""
SHEAR, SHIFT, DEGREES, FACTOR = 0.3, 150 / 331, 30.0, 0.9
"""Shear, shift as a share of the side, rotation, and distance of factors from 1, at the largest magnitude."""
Change = Callable[[Images, PerImage], Images]
"""Images, and the strength with its sign, from -1 to 1."""


def _sheared(images: Images, level: PerImage, row: int) -> Images:
    matrices = torch.eye(2).repeat(len(images), 1, 1)
    matrices[:, row, 1 - row] = SHEAR * level
    return warped(images, matrices, torch.zeros(len(images), 2))


def _shifted(images: Images, level: PerImage, axis: int) -> Images:
    shifts = torch.zeros(len(images), 2)
    shifts[:, axis] = SHIFT * level
    return warped(images, torch.eye(2).repeat(len(images), 1, 1), shifts)


def _rotated(images: Images, level: PerImage) -> Images:
    return warped(images, turned(torch.deg2rad(DEGREES * level)), torch.zeros(len(images), 2))


AFFINE: dict[str, Change] = {
    "shear-x": lambda images, level: _sheared(images, level, 0),
    "shear-y": lambda images, level: _sheared(images, level, 1),
    "translate-x": lambda images, level: _shifted(images, level, 0),
    "translate-y": lambda images, level: _shifted(images, level, 1),
    "rotate": _rotated,
}
"""The maps of places, whose matrices are computed on the host."""
CHANGES: dict[str, Change] = {
    "identity": lambda images, level: images,
    **AFFINE,
    "brightness": lambda images, level: brightness(images, 1 + FACTOR * level),
    "color": lambda images, level: saturation(images, 1 + FACTOR * level),
    "contrast": lambda images, level: contrast(images, 1 + FACTOR * level),
    "sharpness": lambda images, level: sharpened(images, 1 + FACTOR * level),
    "posterize": lambda images, level: posterized(images, 8 - (4 * level.abs()).round().int()),
    "solarize": lambda images, level: solarised(images, 1 - level.abs()),
    "autocontrast": lambda images, level: autocontrasted(images),
    "equalize": lambda images, level: equalised(images),
}
"""The changes, by their usual names."""


def rand_augmented(images: Images, count: int, magnitude: float, generator: torch.Generator) -> Images:
    """Images after changes of their own, which are drawn for each.

    Args:
        images: Pixels in [0, 1].
        count: n, how many changes each image has.
        magnitude: m, from 0 to 30.
        generator: The generator that draws changes and signs.
    """
    for _ in range(count):
        which = torch.randint(len(CHANGES), (len(images),), generator=generator)
        sign = 2.0 * torch.randint(2, (len(images),), generator=generator) - 1
        here = sign * magnitude / MOST
        rows_here = grouped(which, len(CHANGES))
        rows_there, there = sent((rows_here, here), images.device)
        found = torch.empty_like(images)
        for name, own, rows in zip(CHANGES, rows_here, rows_there, strict=True):
            if len(rows):
                level = here[own] if name in AFFINE else there[rows]
                found.index_copy_(0, rows, CHANGES[name](images[rows], level))
        images = found
    return images
