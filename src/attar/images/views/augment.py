"""Differentiable Siamese augmentation (DSA), which most published numbers of the field use.

Zhao and Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021, arXiv:2102.08259.

A *draw* holds the operation and the parameters for each image. In distillation every class has one draw, shared by its
real and synthetic images. In training every mini-batch has one operation, and each image has its own parameters.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError, unknown
from attar.core.sending import sent

Images = Float[Tensor, "batch channel height width"]
Operation = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)

BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP, CUTOUT, FLIP = 0.125, 0.5, 0.5
SCALE, ROTATE = 1.2, 15.0


@dataclass(frozen=True)
class Draw:
    """The operation for each image, and its parameters as three numbers in [0, 1)."""

    operation: Int[Tensor, " batch"]
    uniform: Float[Tensor, "batch 3"]
    only: int | None = None
    """Operation of the whole batch, if it is known that there is only one."""
    shift: float = CROP
    """Largest shift of a crop, as a share of the side."""
    counts: tuple[int, ...] | None = None
    """Number of images of each operation, if they are counted."""

    def counted(self) -> "Draw":
        """The same draw with its counts, which a draw needs before it goes to a GPU: counting there makes it wait."""
        if self.only is not None or self.counts is not None:
            return self
        return replace(self, counts=tuple(torch.bincount(self.operation, minlength=len(OPERATIONS)).tolist()))

    def repeat(self, rows: Int[Tensor, " images"] | slice) -> "Draw":
        """The draws of these rows: `draw.repeat(labels)` gives each image the draw of its class."""
        return Draw(self.operation[rows], self.uniform[rows], self.only, self.shift)


@cache
def strategy(text: str) -> tuple[str, ...]:
    """The operations in a string such as `color_crop_cutout_flip_scale_rotate`; an empty tuple for "none".

    A crop shifts by up to an eighth of the side, `crop=0.25` by up to a quarter, as in EDF's code.

    Raises:
        InputError: A word is not the name of an operation, or the shift of a crop is not a share.
    """
    if text in ("", "none"):
        return ()
    for word in text.split("_"):
        name, _, share = word.partition("=")
        if name not in OPERATIONS:
            raise unknown("augmentation", word, OPERATIONS)
        if "=" in word and (name != "crop" or not _is_share(share)):
            raise InputError(f"{word!r} is no augmentation; only crop takes a number, from 0 to 1, as in crop=0.25.")
    return tuple(text.split("_"))


def default_strategy(flips: bool) -> str:
    """The usual string of operations. It has no flips for digits, because mirrored digits are not digits."""
    return "_".join(name for name in OPERATIONS if flips or name != "flip")


def draw_each(count: int, operations: tuple[str, ...], generator: torch.Generator) -> Draw:
    """Draw one operation and one set of parameters for each of `count` classes."""
    choice = torch.randint(len(operations), (count,), generator=generator)
    numbers = torch.tensor([_number(word) for word in operations])
    return Draw(numbers[choice], torch.rand(count, 3, generator=generator), shift=_shift(operations))


def draw_pair(
    classes: int, operations: tuple[str, ...], generator: torch.Generator, *, siamese: bool = True
) -> tuple[Draw | None, Draw | None]:
    """Draws for the real and for the synthetic images of each class, equal if siamese; None without operations."""
    if not operations:
        return None, None
    real = draw_each(classes, operations, generator)
    return real, real if siamese else draw_each(classes, operations, generator)


def draw_batch(count: int, operations: tuple[str, ...], generator: torch.Generator) -> Draw:
    """Draw one operation for a mini-batch, with parameters for each of its `count` images."""
    choice = int(torch.randint(len(operations), (), generator=generator))
    number = _number(operations[choice])
    return Draw(
        torch.full((count,), number), torch.rand(count, 3, generator=generator), number, shift=_shift(operations)
    )


def _number(word: str) -> int:
    return [str(name) for name in OPERATIONS].index(word.partition("=")[0])


def _shift(operations: tuple[str, ...]) -> float:
    """The largest shift of a crop that the operations ask for."""
    return next((float(word.partition("=")[2]) for word in operations if word.startswith("crop=")), CROP)


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def augment(images: Images, draw: Draw, *, align_corners: bool = False) -> Images:
    """Apply a draw to images in network space.

    Args:
        images: Normalised images.
        draw: The draw, with one row per image.
        align_corners: Whether scale and rotate place the centres of corner pixels, instead of their outer edges, at
            the corners of the sampling grid. DM's code used a version of torch that did so; later code does not.
    """
    draw = sent(draw.counted(), images.device)
    uniform = draw.uniform.to(images)
    present = [(draw.only, len(images))] if draw.only is not None else _present(draw)
    if len(present) == 1:
        return _apply(present[0][0], images, uniform, align_corners, draw.shift)
    order = draw.operation.argsort(stable=True)
    parts = zip(present, order.split([count for _, count in present]), strict=True)
    pieces = [_apply(number, images[rows], uniform[rows], align_corners, draw.shift) for (number, _), rows in parts]
    return torch.cat(pieces)[order.argsort()]


def _present(draw: Draw) -> list[tuple[int, int]]:
    """The operations that are drawn, with the number of their images."""
    assert draw.counts is not None
    return [(number, count) for number, count in enumerate(draw.counts) if count]


def _apply(number: int, images: Images, uniform: Float[Tensor, "batch 3"], align_corners: bool, shift: float) -> Images:
    name = OPERATIONS[number]
    if name == "crop":
        return crop(images, uniform, shift)
    if name in ("scale", "rotate"):
        theta = _scaling(uniform) if name == "scale" else _rotation(uniform)
        grid = F.affine_grid(theta, list(images.shape), align_corners=align_corners)
        return F.grid_sample(images, grid, align_corners=align_corners)
    simple = {"color": color, "cutout": cutout, "flip": flip}
    return simple[name](images, uniform)


def color(images: Images, uniform: Float[Tensor, "batch 3"]) -> Images:
    """Change brightness, saturation and contrast, in this order."""
    bright, saturate, contrast = uniform.view(-1, 3, 1, 1, 1).unbind(dim=1)
    images = images + (bright - 0.5) * BRIGHTNESS
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (saturate * SATURATION) + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + CONTRAST) + mean


def crop(images: Images, uniform: Float[Tensor, "batch 3"], shift: float = CROP) -> Images:
    """Shift by whole pixels along both axes, by up to a share of the side, and fill with zeros."""
    height, width = images.shape[-2:]
    reach = int(height * shift + 0.5), int(width * shift + 0.5)
    down, right = ((uniform[:, axis] * (2 * reach[axis] + 1)).long() for axis in (0, 1))
    padded = F.pad(images, (reach[1], reach[1], reach[0], reach[0]))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(images), device=images.device), :, down, right]


def cutout(images: Images, uniform: Float[Tensor, "batch 3"]) -> Images:
    """Set a square of half the side to zero. Its centre is random, and it is clipped at the borders."""
    keep = torch.ones((), device=images.device, dtype=torch.bool)
    for axis, side in enumerate(images.shape[-2:]):
        size = int(side * CUTOUT + 0.5)
        centre = (uniform[:, axis, None] * (side + 1 - size % 2)).long()
        places = torch.arange(side, device=images.device)
        inside = (places >= centre - size // 2) & (places < centre - size // 2 + size)
        keep = keep & (inside[:, :, None] if axis == 0 else inside[:, None, :])
    return images * ~keep.unsqueeze(1)


def flip(images: Images, uniform: Float[Tensor, "batch 3"]) -> Images:
    """Mirror left and right, with probability one half."""
    mirrored = (uniform[:, 0] < FLIP).view(-1, 1, 1, 1)
    return torch.where(mirrored, images.flip(3), images)


def _scaling(uniform: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 2 3"]:
    """The matrices that stretch both axes independently by 1/1.2 to 1.2. Factors below one zoom in."""
    factors = uniform[:, :2] * (SCALE - 1 / SCALE) + 1 / SCALE
    return F.pad(torch.diag_embed(factors), (0, 1))


def _rotation(uniform: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 2 3"]:
    """The matrices that rotate by up to 15 degrees."""
    angle = (uniform[:, 0] - 0.5) * 2 * math.radians(ROTATE)
    rows = [torch.stack([angle.cos(), -angle.sin()], dim=1), torch.stack([angle.sin(), angle.cos()], dim=1)]
    return F.pad(torch.stack(rows, dim=1), (0, 1))
