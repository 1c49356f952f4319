"""Rays that are rendered at every step: what their samples read of a dense grid is a sparse matrix, made once.

The matrix M has a row for each sample with the weights of the eight nodes around it. Reading is M·t, where the table t
has a row for each node, and the gradient is Mᵀ·g. Both are kept, since turning a matrix round takes longer than
multiplying by it. Rows of samples outside the box are empty.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.memory import machine_bytes
from attar.scenes.fields import GridField
from attar.scenes.rendering import PerSample, Rays, Rendered, as_maps, rays_of, render, rendered
from attar.scenes.sources import Camera, Poses

Table = Float[Tensor, "node channel"]
ENTRY = 2 * 8 * (4 + 4)
"""Bytes of a sample in both matrices, at most: eight nodes, each an index and a weight."""


class _Read(torch.autograd.Function):
    """M·t, with the gradient Mᵀ·g."""

    @staticmethod
    def forward(ctx: Any, table: Table, matrix: Tensor, turned: Tensor) -> Tensor:
        ctx.turned = turned
        return matrix @ table

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.turned @ gradient.contiguous(), None, None


@dataclass(frozen=True)
class FixedRays:
    """Rays with what they read of a grid of one size."""

    matrix: Tensor
    """M, in rows (CSR)."""
    turned: Tensor
    """Mᵀ, in rows."""
    distances: PerSample
    lengths: PerSample
    """0 outside the box."""

    @classmethod
    def of(cls, rays: Rays, field: GridField, samples: int) -> "FixedRays":
        """Rays that read a field, or another of its size and box.

        Args:
            rays: The rays.
            field: The field.
            samples: Intervals of each ray.
        """
        distances, lengths = rays.intervals(samples)
        points = rays.points(distances)
        inside = (field.inside(points) > 0) & (lengths > 0)
        rows = inside.flatten().nonzero()[:, 0]
        nodes, shares = corners(field.unit(points).reshape(-1, 3)[rows], field.sizes)
        shape = (inside.numel(), len(field.table))
        rows = rows[:, None].expand_as(nodes)
        return cls(
            compressed(rows.flatten(), nodes.flatten(), shares.flatten(), shape),
            compressed(nodes.flatten(), rows.flatten(), shares.flatten(), shape[::-1]),
            distances,
            lengths * inside,
        )

    def raw(self, field: GridField) -> Float[Tensor, "ray sample value"]:
        """The raw values of the field at the samples."""
        found: Tensor = _Read.apply(field.table, self.matrix, self.turned)
        return found.view(*self.lengths.shape, -1)

    def render(self, field: GridField) -> Rendered:
        """What the rays see of the field."""
        density, features = field.parted(self.raw(field))
        return rendered(density, self.lengths, features, field.background, self.distances)

    @property
    def bytes(self) -> int:
        """Memory of both matrices."""
        both = (self.matrix, self.turned)
        parts = [part for one in both for part in (one.crow_indices(), one.col_indices(), one.values())]
        return sum(part.numel() * part.element_size() for part in parts)


def corners(
    unit: Float[Tensor, "point 3"], sizes: tuple[int, int, int]
) -> tuple[Int[Tensor, "point 8"], Float[Tensor, "point 8"]]:
    """The eight nodes around each point, and their trilinear weights, as `grid_sample` with aligned corners has them.

    Args:
        unit: Coordinates in which the box is [-1, 1]³.
        sizes: Nodes along each axis.
    """
    last = torch.tensor(sizes, device=unit.device) - 1
    places = (unit + 1) / 2 * last.to(unit)
    low = torch.minimum(places.floor().long().clamp(min=0), (last - 1).clamp(min=0))
    share = places - low
    step = (last > 0).long()
    nodes, shares = [], []
    for corner in range(8):
        bits = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1], device=unit.device)
        x, y, z = (low + bits * step).unbind(dim=1)
        nodes.append((x * sizes[1] + y) * sizes[2] + z)
        shares.append(torch.where(bits.bool(), share, 1 - share).prod(dim=1))
    return torch.stack(nodes, dim=1), torch.stack(shares, dim=1)


def compressed(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix in rows (CSR), with 32-bit indices where they suffice."""
    order = torch.sort(rows, stable=True).indices
    index = torch.int32 if max(*shape, len(rows)) < 2**31 else torch.int64
    starts = torch.zeros(shape[0] + 1, dtype=torch.long, device=rows.device)
    starts[1:] = torch.bincount(rows, minlength=shape[0]).cumsum(0)
    with warnings.catch_warnings():  # PyTorch tells once that sparse rows are in beta
        warnings.simplefilter("ignore")
        return torch.sparse_csr_tensor(starts.to(index), columns[order].to(index), values[order], shape)


class TrainingRays:
    """All rays of the training views: of a dense grid by matrices, and of another field as usual.

    Args:
        camera: With as many pixels as the maps.
        poses: Camera to world.
        near: Distance at which rays begin.
        far: Distance at which they end.
        field: The field, or another of its size and box.
        samples: Intervals of each ray.
        sparse: Whether matrices are made, where the field has a dense grid and they take less than half the memory.
    """

    def __init__(
        self, camera: Camera, poses: Poses, near: float, far: float, field: Any, samples: int, *, sparse: bool = True
    ) -> None:
        self.camera, self.samples = camera, samples
        each = camera.height * camera.width
        sparse = sparse and len(poses) * each * samples * ENTRY < (machine_bytes() or math.inf) / 2
        self.rays = list(rays_of(camera, poses, near, far, field.box).split(each))
        dense = sparse and isinstance(field, GridField)
        self.fixed = [FixedRays.of(rays, field, samples) for rays in self.rays] if dense else None

    def __len__(self) -> int:
        return len(self.rays)

    def maps(self, field: Any, views: Sequence[int]) -> Float[Tensor, "view channel height width"]:
        """Whole maps of these views, as the field is now."""
        return torch.cat([as_maps(self._features(field, view), self.camera) for view in views])

    def _features(self, field: Any, view: int) -> Float[Tensor, "ray channel"]:
        if self.fixed is None:
            return render(field, self.rays[view], self.samples).features
        return self.fixed[view].render(field).features
