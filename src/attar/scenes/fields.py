"""Radiance fields on grids: density and a feature at each point, without limits on the features.

`GridField` keeps every node. `FactorField` keeps planes and lines (VM) or lines alone (CP) of low-rank tensors: Chen,
Xu, Geiger, Yu and Su, TensoRF, ECCV 2022, arXiv:2203.09517. Each reads all its channels in one call of `grid_sample`.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.scenes.rendering import Box

Places = Float[Tensor, "... 3"]
Density = Float[Tensor, "..."]
Raw = Float[Tensor, "... value"]
"""The raw density, and the features."""
Values = Float[Tensor, "... channel"]
Form = Literal["dense", "vm", "cp"]
PRODUCT = 0.1
"""Standard deviation of a component of low rank before the first step."""
START = 0.03
"""Optical depth of a voxel before the first step."""


class GridBase(nn.Module):
    """What all fields on grids share: the box, the background, and the density from its raw value.

    Args:
        box: Two corners.
        sizes: Nodes along x, y and z; the outer ones lie on the faces of the box.
        channels: Of the features.
    """

    def __init__(self, box: Box, sizes: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        self.box, self.sizes, self.channels = box, sizes, channels
        self.background = nn.Parameter(torch.zeros(channels))
        spans = [high - low for low, high in zip(*box, strict=True)]
        self.voxel = sum(span / max(size - 1, 1) for span, size in zip(spans, sizes, strict=True)) / 3
        """Mean distance of two nodes."""

    def forward(self, points: Places) -> tuple[Density, Values]:
        """Densities and features at points; no density outside the box."""
        density, features = self.parted(self.raw(points))
        return density * self.inside(points), features

    def raw(self, points: Places) -> Raw:
        """The raw density and the features at points."""
        raise NotImplementedError

    def variation(self) -> Float[Tensor, ""]:
        """Total variation: the mean squared difference of neighbouring nodes, summed over channels and axes."""
        raise NotImplementedError

    def parted(self, raw: Raw) -> tuple[Density, Values]:
        """Density softplus(raw + b) per voxel, where b makes an untouched voxel almost empty; and the features."""
        start = math.log(math.expm1(START))
        return F.softplus(raw[..., 0] + start) / self.voxel, raw[..., 1:]

    def inside(self, points: Places) -> Density:
        """1 in the box, and 0 outside."""
        low, high = (points.new_tensor(corner) for corner in self.box)
        return ((points >= low) & (points <= high)).all(dim=-1).to(points)

    def unit(self, points: Places) -> Places:
        """Coordinates in which the box is [-1, 1]³."""
        low, high = (points.new_tensor(corner) for corner in self.box)
        return (points - low) / (high - low) * 2 - 1


class GridField(GridBase):
    """A field that keeps density and features of every node, and interpolates between them.

    Args:
        box: The part of space that the grid fills.
        sizes: Nodes along x, y and z.
        channels: Size of a feature.
    """

    def __init__(self, box: Box, sizes: tuple[int, int, int], channels: int) -> None:
        super().__init__(box, sizes, channels)
        self.values = nn.Parameter(torch.zeros(*sizes, 1 + channels))

    @property
    def table(self) -> Float[Tensor, "node channel"]:
        """A row for each node."""
        return self.values.view(-1, 1 + self.channels)

    def raw(self, points: Places) -> Raw:
        """Values at points, by one call of `grid_sample` for all channels."""
        places = self.unit(points).reshape(1, -1, 1, 1, 3)
        found = F.grid_sample(self.values.permute(3, 2, 1, 0)[None], places, align_corners=True)
        return found.view(1 + self.channels, -1).T.view(*points.shape[:-1], -1)

    def variation(self) -> Float[Tensor, ""]:
        """Over the nodes."""
        return sum_of([self.values.diff(dim=axis) for axis in range(3)])


class FactorField(GridBase):
    """A field of low rank: sums over components of products of a plane and a line (VM), or of three lines (CP).

    Args:
        box: Two corners.
        sizes: Nodes along x, y and z.
        channels: Of the features.
        rank: Components: of each of the three splittings (VM), or in all (CP).
        form: vm or cp.
        generator: Draws the start.
    """

    def __init__(
        self,
        box: Box,
        sizes: tuple[int, int, int],
        channels: int,
        rank: int = 16,
        form: Literal["vm", "cp"] = "vm",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(box, sizes, channels)
        self.rank, self.form, side = rank, form, max(sizes)

        def drawn(std: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(std * torch.randn(*shape, generator=generator))

        each = PRODUCT ** (1 / 2 if form == "vm" else 1 / 3)
        self.lines = drawn(each, 3, rank, side)
        self.planes = drawn(each, 3, rank, side, side) if form == "vm" else None
        self.basis = drawn(PRODUCT, 1 + channels, 3 * rank if form == "vm" else rank)

    def raw(self, points: Places) -> Raw:
        """Values at points: one call of `grid_sample` for all planes, and one for all lines."""
        flat = self.unit(points).reshape(-1, 3)
        along = torch.stack([torch.zeros_like(flat.T), flat.T], dim=-1)[:, :, None]
        lines = F.grid_sample(self.lines[..., None], along, align_corners=True)[..., 0]
        if self.planes is None:
            parts = lines.prod(dim=0)
        else:
            across = torch.stack([flat[:, [1, 2]], flat[:, [0, 2]], flat[:, [0, 1]]])[:, :, None]
            planes = F.grid_sample(self.planes, across, align_corners=True)[..., 0]
            parts = (planes * lines).flatten(0, 1)
        return (self.basis @ parts).T.view(*points.shape[:-1], -1)

    def variation(self) -> Float[Tensor, ""]:
        """Over the nodes of planes and lines."""
        found = [self.lines.movedim(1, -1).diff(dim=1)]
        if self.planes is not None:
            planes = self.planes.movedim(1, -1)
            found += [planes.diff(dim=1), planes.diff(dim=2)]
        return sum_of(found)


def sum_of(differences: list[Float[Tensor, "... channel"]]) -> Float[Tensor, ""]:
    """The sum over axes and channels of mean squared differences."""
    return torch.stack([one.square().sum(dim=-1).mean() for one in differences if one.numel()]).sum()


def sizes_of(box: Box, size: int) -> tuple[int, int, int]:
    """Nodes along x, y and z: so many along the longest side of the box, and as densely along the others."""
    spans = [high - low for low, high in zip(*box, strict=True)]
    x, y, z = (max(2, round(size * span / max(spans))) for span in spans)
    return x, y, z


def field_of(
    form: Form, box: Box, sizes: tuple[int, int, int], channels: int, rank: int, generator: torch.Generator | None
) -> GridField | FactorField:
    """A fresh field."""
    if form == "dense":
        return GridField(box, sizes, channels)
    return FactorField(box, sizes, channels, rank, form, generator)
