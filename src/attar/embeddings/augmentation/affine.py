"""Affine maps of images about their centre: rotation, scale, shear and shift. What comes from outside is black."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.embeddings.augmentation.shared import Images, PerImage, between

Matrices = Float[Tensor, "batch 2 2"]
Shifts = Float[Tensor, "batch 2"]


def turned(angle: PerImage, scale: PerImage | float = 1.0) -> Matrices:
    """Rotation by an angle in radians, and scaling."""
    rows = [torch.stack([angle.cos(), -angle.sin()], dim=1), torch.stack([angle.sin(), angle.cos()], dim=1)]
    return torch.stack(rows, dim=1) * torch.as_tensor(scale).view(-1, 1, 1)


def warped(images: Images, matrices: Matrices, shifts: Shifts) -> Images:
    """Images after x → M x + t about their centre, interpolated bilinearly.

    Args:
        images: The images.
        matrices: M, on columns of x and y in pixels.
        shifts: t, as shares of width and height.
    """
    height, width = images.shape[2:]
    back = torch.linalg.inv(matrices.double())
    sides = torch.tensor([width, height], dtype=torch.float64)
    grid_shift = 2 * shifts.double()
    theta = back * sides / sides[:, None]  # in coordinates from -1 to 1
    theta = torch.cat([theta, -theta @ grid_shift[:, :, None]], dim=2).to(images)
    return F.grid_sample(images, F.affine_grid(theta, list(images.shape), align_corners=False), align_corners=False)


def drawn_affine(
    count: int, degrees: float, shift: float, zoom: float, generator: torch.Generator
) -> tuple[Matrices, Shifts]:
    """Matrices and shifts that are uniform in their ranges.

    Args:
        count: The number of images.
        degrees: Largest rotation to either side.
        shift: Largest shift along each axis, as a share of the side.
        zoom: z; scales are from 1 - z to 1 + z.
        generator: The generator that draws them.
    """
    angle = torch.deg2rad(between(-degrees, degrees, count, generator))
    scale = between(1 - zoom, 1 + zoom, count, generator)
    shifts = torch.stack([between(-shift, shift, count, generator) for _ in range(2)], dim=1)
    return turned(angle, scale), shifts
