"""Gaussian blur, and its opposite."""

import torch
import torch.nn.functional as F

from attar.embeddings.augmentation.shared import Images, PerImage, per_image

SIDES = 20
"""The kernel's radius is the side divided by this, so that it covers a tenth of the image, as in SimCLR."""


def blurred(images: Images, sigma: PerImage) -> Images:
    """Images blurred by a Gaussian kernel each; borders are reflected.

    Args:
        images: The images.
        sigma: Standard deviation of each kernel, in pixels. The kernel is cut off at a twentieth of the shorter side on
            either side, but not below one pixel.
    """
    side = min(images.shape[2:])
    radius = min(max(1, side // SIDES), side - 1)
    if radius < 1:
        return images
    places = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-0.5 * (places / sigma.to(images)[:, None]) ** 2)
    weights = weights / weights.sum(dim=1, keepdim=True)
    for dim in (2, 3):
        pad = (0, 0, radius, radius) if dim == 2 else (radius, radius, 0, 0)
        padded, size = F.pad(images, pad, mode="reflect"), images.shape[dim]
        shifted = (padded.narrow(dim, start, size) for start in range(2 * radius + 1))
        images = sum(part * per_image(w, images) for part, w in zip(shifted, weights.T, strict=True))  # type: ignore[assignment]
    return images


def sharpened(images: Images, factor: PerImage) -> Images:
    """The mix f x + (1 - f) smooth(x), cut off at 0 and 1. Borders stay.

    Smoothing has weight 5 in the middle and 1 at the eight neighbours.
    """
    if min(images.shape[2:]) < 3:
        return images
    kernel = torch.ones(3, 3, dtype=images.dtype, device=images.device)
    kernel[1, 1].fill_(5)
    channels = images.shape[1]
    middle = F.conv2d(images, (kernel / kernel.sum()).expand(channels, 1, 3, 3), groups=channels)
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = middle
    return torch.lerp(smooth, images, per_image(factor, images)).clamp(0, 1)
