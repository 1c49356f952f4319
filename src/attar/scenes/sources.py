"""A scene: images of one moment from known cameras, some of them held out.

Axes are those of OpenGL, as in nerfstudio and instant-ngp: a camera looks along its -z axis, x is right and y is up.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.notebook import Told

Pictures = Float[Tensor, "view 3 height width"]
Poses = Float[Tensor, "view 3 4"]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera, in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def scaled(self, height: int, width: int) -> "Camera":
        """The same camera with another number of pixels."""
        across, down = width / self.width, height / self.height
        return Camera(width, height, self.fx * across, self.fy * down, self.cx * across, self.cy * down)

    def rays(self, poses: Poses) -> tuple[Float[Tensor, "view height width 3"], Float[Tensor, "view height width 3"]]:
        """Origins and unit directions of the rays through the centres of all pixels.

        Args:
            poses: Camera to world, `[view, 3, 4]`: a rotation, and the place of the camera.
        """
        across = (torch.arange(self.width, device=poses.device) + 0.5 - self.cx) / self.fx
        down = (torch.arange(self.height, device=poses.device) + 0.5 - self.cy) / self.fy
        y, x = torch.meshgrid(down, across, indexing="ij")
        local = torch.stack([x, -y, -torch.ones_like(x)], dim=-1).to(poses)
        directions = torch.einsum("vij,hwj->vhwi", poses[:, :, :3], local)
        directions = directions / directions.norm(dim=-1, keepdim=True)
        return poses[:, None, None, :, 3].expand_as(directions), directions


@dataclass(frozen=True)
class Views:
    """Images with their poses."""

    images: Pictures
    """Between -1 and 1."""
    poses: Poses
    """Camera to world."""

    def __len__(self) -> int:
        return len(self.images)

    def select(self, rows: Tensor) -> "Views":
        """The views of these rows."""
        return Views(self.images[rows], self.poses[rows])


@dataclass(frozen=True)
class Scene(Told):
    """A scene with its cameras, split into views to learn from and held-out views."""

    name: str
    train: Views
    test: Views
    """Held-out views."""
    camera: Camera
    near: float
    """Distance from the camera at which rays begin."""
    far: float
    """Distance at which they end."""
    box: tuple[tuple[float, float, float], tuple[float, float, float]]
    """Two corners of the box that the field fills: the smallest and the largest coordinates."""
    others: tuple[Views, ...] = field(default=(), compare=False, repr=False)
    """Views of simulated scenes of each class from the same cameras, from which a denoiser can learn the classes."""
    classes: tuple[str, ...] = ()
    """Names of those classes."""
    label: int | None = None
    """The class of this scene, if it is of one."""
    masks: Float[Tensor, "view height width"] | None = field(default=None, compare=False, repr=False)
    """Where the object is in the training views, if that is known."""
    notes: tuple[str, ...] = field(default=(), compare=False)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of every image and pose, and of the cameras."""
        facts: list[Any] = [dataclasses.astuple(self.camera), self.near, self.far, self.box]
        digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=16)
        for views in (self.train, self.test):
            for tensor in (views.images, views.poses):
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def __str__(self) -> str:
        size = f"{self.camera.height}×{self.camera.width}"
        line = f"{self.name}: {len(self.train)} training and {len(self.test)} held-out views, {size}"
        return "\n".join([line, *(f"note: {note}" for note in self.notes)])
