"""Poses: whether they are such, where they look, and a path around a scene from those of its training views."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.scenes.sources import Poses

Path = Float[Tensor, "place 3 4"]
"""Poses along a path."""
STRAIGHT = 1e-3
"""How far the entries of RᵀR may be from those of the identity."""


def looking(places: Float[Tensor, "view 3"], at: Float[Tensor, "view 3"], up: Float[Tensor, " 3"]) -> Poses:
    """Poses of cameras at places that look at points: a rotation, and the place."""
    back = places - at
    back = back / back.norm(dim=1, keepdim=True)
    right = torch.linalg.cross(up.expand_as(back), back)
    right = right / right.norm(dim=1, keepdim=True)
    return torch.stack([right, torch.linalg.cross(back, right), back, places], dim=2)


def centre_of(poses: Poses) -> Float[Tensor, " 3"] | None:
    """The point nearest to all optical axes; None where it lies behind a camera, or axes are about parallel."""
    axes, places = -poses[:, :, 2].double(), poses[:, :, 3].double()
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]
    total = across.sum(dim=0)
    if float(torch.linalg.eigvalsh(total)[0]) < 1e-3 * len(poses):
        return None
    found = torch.linalg.solve(total, (across @ places[:, :, None]).sum(dim=0)[:, 0])
    return found.to(poses) if bool((((found - places) * axes).sum(dim=1) > 0).all()) else None


def orbit(poses: Poses, count: int) -> Path:
    """So many poses on a path: a circle around the point that the cameras look at, or a small one where they are.

    Args:
        poses: Camera to world, `[view, 3, 4]`.
        count: Number of poses on the path.
    """
    centre, up = centre_of(poses), up_of(poses)
    turns = 2 * math.pi * torch.arange(count).to(poses) / count
    if centre is None or not _surrounded(poses, centre):
        return _swayed(poses, turns)
    arms = poses[:, :, 3] - centre
    height = (arms @ up).mean()
    radius = (arms - (arms @ up)[:, None] * up).norm(dim=1).mean()
    first = arms[0] - (arms[0] @ up) * up
    first = first / first.norm().clamp(min=1e-6)
    second = torch.linalg.cross(up, first)
    ring = turns.cos()[:, None] * first + turns.sin()[:, None] * second
    return looking(centre + height * up + radius * ring, centre.expand(count, 3), up)


def up_of(poses: Poses) -> Float[Tensor, " 3"]:
    """Which way is up: at right angles to the horizontal axes of all cameras, or as they have it in the mean."""
    mean = poses[:, :, 1].mean(dim=0)
    spread, axes = torch.linalg.eigh(poses[:, :, 0].T @ poses[:, :, 0] / len(poses))
    if float(spread[1]) < 0.05 or float(spread[0]) > 0.05:
        return mean / mean.norm().clamp(min=1e-6)
    upright = axes[:, 0]
    return upright if float(upright @ mean) > 0 else -upright


def _surrounded(poses: Poses, centre: Float[Tensor, " 3"]) -> bool:
    """Whether cameras stand on several sides."""
    arms = poses[:, :, 3] - centre
    return bool((arms / arms.norm(dim=1, keepdim=True)).mean(dim=0).norm() < 0.8)


def _swayed(poses: Poses, turns: Float[Tensor, " _place"]) -> Path:
    """A small circle in the plane of the middle camera, which keeps its direction."""
    places = poses[:, :, 3]
    middle = poses[(places - places.mean(dim=0)).norm(dim=1).argmin()]
    reach = places.std(dim=0, correction=0).norm() if len(poses) > 1 else places.new_tensor(0.1)
    offset = turns.cos()[:, None] * middle[:, 0] + turns.sin()[:, None] * middle[:, 1]
    made = middle.expand(len(turns), 3, 4).clone()
    made[:, :, 3] += reach * offset
    return made


def spread(count: int, wanted: int) -> Int[Tensor, " _row"]:
    """So many of the numbers below a count, evenly spaced, none of them twice."""
    rows = torch.linspace(0, count - 1, 2 * wanted + 1).round().long()[1::2]
    if len(rows.unique()) == wanted:
        return rows
    return ((torch.arange(wanted) + 0.5) * count / wanted).long()


def checked(poses: Any, of: str = "") -> Poses:
    """Poses, checked to be rotations and places.

    Args:
        poses: Camera to world.
        of: Words about whose they are, for the message.

    Raises:
        InputError: A value is not finite, or a matrix is no rotation.
    """
    if not isinstance(poses, Tensor):
        raise InputError(f"poses{of} are of type {type(poses).__name__}; give a tensor [view, 3, 4], camera to world.")
    if poses.ndim != 3 or poses.shape[1:] != (3, 4):
        raise InputError(f"poses{of} are {list(poses.shape)}; give [view, 3, 4], camera to world.")
    if not poses.isfinite().all():
        row = int((~poses.isfinite()).flatten(1).any(dim=1).int().argmax())
        raise InputError(f"pose {row}{of} holds values that are infinite or not numbers. Leave such views out.")
    turned = poses[:, :, :3].double()
    unit = torch.eye(3, dtype=torch.float64, device=poses.device)
    off = (turned.transpose(1, 2) @ turned - unit).abs().amax(dim=(1, 2))
    off = torch.maximum(off, (torch.linalg.det(turned) - 1).abs())
    if bool((off > STRAIGHT).any()):
        row = int(off.argmax())
        raise InputError(
            f"pose {row}{of} is no rotation (off by {float(off[row]):.3g}): give camera-to-world matrices [R | t] "
            "whose R is orthogonal with determinant 1."
        )
    found: Poses = poses
    return found
