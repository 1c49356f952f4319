"""Volume rendering as functions of tensors.

A ray is divided into intervals that tile [near, far]. Sample k in the middle of an interval of length δ_k has a
density s_k ≥ 0 and a feature f_k without limits, such as a latent:

    a_k = 1 - exp(-s_k δ_k),    T_k = Π_{j<k} (1 - a_j),    f(ray) = Σ_k T_k a_k f_k + T_end f_background.

Mildenhall et al., NeRF, ECCV 2020, arXiv:2003.08934; Max, Optical Models for Direct Volume Rendering, 1995.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.scenes.sources import Camera, Poses

Box = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Two corners: the smallest and the largest coordinates."""
Points = Float[Tensor, "ray sample 3"]
PerSample = Float[Tensor, "ray sample"]
PerRay = Float[Tensor, " _ray"]
Features = Float[Tensor, "ray channel"]
SMALLEST = 1e-9
"""Smallest part of a direction that is divided by."""


@runtime_checkable
class Field(Protocol):
    """Density and feature at points in space, and what lies behind everything."""

    @property
    def box(self) -> Box:
        """Outside which there is nothing."""

    @property
    def background(self) -> Tensor:
        """The feature of what lies behind everything."""

    def __call__(self, points: Any) -> Any:
        """Densities and features at points; no density outside the box."""


@dataclass(frozen=True)
class Rays:
    """Rays, each from its start to its end."""

    origins: Float[Tensor, "ray 3"]
    directions: Float[Tensor, "ray 3"]
    """Of unit length."""
    starts: PerRay
    """Distance from the origin."""
    ends: PerRay

    def __len__(self) -> int:
        return len(self.origins)

    def split(self, count: int) -> Iterator["Rays"]:
        """Portions of so many rays."""
        parts = (one.split(count) for one in (self.origins, self.directions, self.starts, self.ends))
        return (Rays(*part) for part in zip(*parts, strict=True))

    def intervals(self, samples: int) -> tuple[PerSample, PerSample]:
        """The middles of equal intervals that tile each ray, and their lengths."""
        share = (torch.arange(samples, device=self.starts.device) + 0.5) / samples
        reach = (self.ends - self.starts)[:, None]
        return self.starts[:, None] + reach * share.to(self.starts), (reach / samples).expand(-1, samples)

    def points(self, distances: PerSample) -> Points:
        """Points at these distances."""
        return self.origins[:, None] + distances[:, :, None] * self.directions[:, None]


@dataclass(frozen=True)
class Rendered:
    """What rays see."""

    features: Features
    opacity: PerRay
    """1 - T_end."""
    depth: PerRay
    """Mean distance, weighted by T_k a_k; 0 of a ray that meets nothing."""


def rays_of(camera: Camera, poses: Poses, near: float, far: float, box: Box) -> Rays:
    """The rays through all pixels of views, one view after another, cut to a box.

    Args:
        camera: With as many pixels as there are rays in a view.
        poses: Camera to world.
        near: Distance at which rays begin.
        far: Distance at which they end.
        box: What they are cut to.
    """
    origins, directions = (part.reshape(-1, 3) for part in camera.rays(poses))
    return Rays(origins, directions, *cut(origins, directions, near, far, box))


def cut(
    origins: Float[Tensor, "ray 3"], directions: Float[Tensor, "ray 3"], near: float, far: float, box: Box
) -> tuple[PerRay, PerRay]:
    """Distances at which rays enter and leave a box, within [near, far]; equal for a ray that misses it."""
    low, high = (torch.tensor(corner, dtype=origins.dtype, device=origins.device) for corner in box)
    safe = torch.where(directions.abs() < SMALLEST, directions.new_tensor(SMALLEST), directions)
    one, other = (low - origins) / safe, (high - origins) / safe
    starts = torch.minimum(one, other).amax(dim=1).clamp(near, far)
    return starts, torch.maximum(torch.maximum(one, other).amin(dim=1).clamp(near, far), starts)


def opacities(density: PerSample, lengths: PerSample) -> PerSample:
    """a_k = 1 - exp(-s_k δ_k)."""
    return -torch.expm1(-density * lengths)


def transmittances(density: PerSample, lengths: PerSample) -> Float[Tensor, "ray edge"]:
    """T_k before each sample, and T_end after the last."""
    return torch.exp(-F.pad((density * lengths).cumsum(dim=1), (1, 0)))


def weights(density: PerSample, lengths: PerSample) -> tuple[PerSample, PerRay]:
    """T_k a_k of each sample, and T_end; their sum is 1 for every ray.

    Args:
        density: σ_k of each sample of a ray, per unit of length.
        lengths: The length of each sample's interval.
    """
    reached = transmittances(density, lengths)
    return reached[:, :-1] * opacities(density, lengths), reached[:, -1]


def composed(
    density: PerSample,
    lengths: PerSample,
    features: Float[Tensor, "ray sample channel"],
    background: Float[Tensor, "... channel"],
) -> Features:
    """Σ_k T_k a_k f_k + T_end f_background.

    Args:
        density: s_k.
        lengths: δ_k.
        features: f_k.
        background: f_background, one for all rays or one for each.
    """
    seen, left = weights(density, lengths)
    return torch.bmm(seen[:, None], features)[:, 0] + left[:, None] * background


def render(field: Field, rays: Rays, samples: int = 64) -> Rendered:
    """What rays see of a field.

    Args:
        field: Densities and features at points.
        rays: The rays.
        samples: Intervals of each ray.
    """
    distances, lengths = rays.intervals(samples)
    density, features = field(rays.points(distances))
    return rendered(density, lengths, features, field.background, distances)


def rendered(
    density: PerSample, lengths: PerSample, features: Tensor, background: Tensor, distances: PerSample
) -> Rendered:
    """What rays see of samples whose densities and features are at hand; see `composed`."""
    seen, left = weights(density, lengths)
    found = torch.bmm(seen[:, None], features)[:, 0] + left[:, None] * background
    opacity = 1 - left
    depth = (seen * distances).sum(dim=1) / opacity.clamp(min=torch.finfo(opacity.dtype).eps)
    return Rendered(found, opacity, depth)


def maps(
    field: Field, camera: Camera, poses: Poses, near: float, far: float, samples: int = 64
) -> Float[Tensor, "view channel height width"]:
    """Whole maps of features, one for each pose.

    Args:
        field: Densities and features at points.
        camera: With as many pixels as the maps.
        poses: Camera to world.
        near: Distance at which rays begin.
        far: Distance at which they end.
        samples: Intervals of each ray.
    """
    found = render(field, rays_of(camera, poses, near, far, field.box), samples).features
    return as_maps(found, camera)


def as_maps(features: Features, camera: Camera) -> Float[Tensor, "view channel height width"]:
    """Features of the rays of whole views as maps."""
    return features.view(-1, camera.height, camera.width, features.shape[1]).permute(0, 3, 1, 2)
