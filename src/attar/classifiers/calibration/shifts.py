"""Shifted test images: what a classifier meets when its data change, from light to strong.

They are functions of pixels, made anew for each measurement, and not the published corruptions (CIFAR-10-C and the
like), which are files of their own: give those by `--beyond`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Pixels = Float[Tensor, "sample channel height width"]
"""Values in [0, 1]."""
Shift = Callable[[Pixels, torch.Generator], Pixels]
Name = Literal["rotate", "noise", "blur", "contrast"]


def rotated(pixels: Pixels, degrees: float) -> Pixels:
    """Images turned about their centre, counter-clockwise. Pixels that move in repeat those of the border."""
    angle, (height, width) = math.radians(degrees), pixels.shape[2:]
    matrix = torch.tensor(
        [
            [math.cos(angle), -math.sin(angle) * height / width, 0.0],
            [math.sin(angle) * width / height, math.cos(angle), 0.0],
        ],
        device=pixels.device,
        dtype=pixels.dtype,
    )
    grid = F.affine_grid(matrix.expand(len(pixels), 2, 3), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def noisy(pixels: Pixels, spread: float, generator: torch.Generator) -> Pixels:
    """Images with Gaussian noise of a standard deviation, clipped to [0, 1]."""
    noise = torch.randn(pixels.shape, generator=generator, dtype=pixels.dtype)
    return (pixels + spread * noise.to(pixels.device)).clamp(0, 1)


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    """Images under a Gaussian of σ pixels, of which three σ on each side count. The border is repeated."""
    reach = math.ceil(3 * sigma)
    places = torch.arange(-reach, reach + 1, device=pixels.device, dtype=pixels.dtype)
    kernel = torch.exp(-places.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    channels = pixels.shape[1]
    wide = F.pad(pixels, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(wide, kernel.expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, kernel.expand(channels, 1, 1, -1).transpose(2, 3), groups=channels)


def faded(pixels: Pixels, factor: float) -> Pixels:
    """Images with less contrast: the distance of each pixel to the mean of its image, times a factor."""
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    return mean + factor * (pixels - mean)


def shifts(names: Sequence[Name]) -> dict[str, Shift]:
    """The shifts of some kinds, each in several strengths, by what they are called in a table."""
    known: dict[Name, dict[str, Shift]] = {
        "rotate": {f"rotated {angle}°": _without_draws(rotated, angle) for angle in (15, 25, 30)},
        "noise": {f"noise {spread:g}": _with_draws(spread) for spread in (0.1, 0.25)},
        "blur": {f"blur {sigma:g} px": _without_draws(blurred, sigma) for sigma in (0.5, 1.0)},
        "contrast": {f"contrast {factor:g}": _without_draws(faded, factor) for factor in (0.5, 0.25)},
    }
    return {told: shift for name in dict.fromkeys(names) for told, shift in known[name].items()}


def _without_draws(shift: Callable[[Pixels, float], Pixels], strength: float) -> Shift:
    return lambda pixels, generator: shift(pixels, strength)


def _with_draws(spread: float) -> Shift:
    return lambda pixels, generator: noisy(pixels, spread, generator)
