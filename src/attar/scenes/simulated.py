"""Simulated scenes, ray traced: three striped spheres, and one object of a class on a floor.

All of it is exact geometry with one distant lamp, so that poses, masks and classes are known.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.core.seeds import derived_seed
from attar.scenes.poses import looking, spread
from attar.scenes.rendering import Box
from attar.scenes.sources import Camera, Poses, Scene, Views

Places = Float[Tensor, "ray 3"]
Colour = tuple[float, float, float]
BOX: Box = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
NEAR, FAR = 1.2, 5.2
DISTANCE = 3.2
"""Of the cameras from the middle."""
ANGLE = math.radians(42)
"""Angle of view."""
SKY: Colour = (0.82, 0.86, 0.9)
LAMP = (0.45, 0.3, 0.84)
GROUND = -0.6
FINER = 2
"""Rays through a pixel, across and down."""
VARIANTS = 3
"""Scenes of each class that the other views show: the object as it is, and others of other size, turn and place."""
COLOURS: dict[str, Colour] = {"red": (0.85, 0.2, 0.15), "blue": (0.15, 0.3, 0.85)}
CLASSES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in ("ball", "cube"))


@dataclass(frozen=True)
class Hit:
    """Where rays meet a shape."""

    distance: Float[Tensor, " ray"]
    """Infinite of a ray that misses it."""
    normal: Places
    colour: Places


Shape = Callable[[Places, Places], Hit]
"""Where rays, by origins and unit directions, meet a shape."""


def ball(centre: Sequence[float], radius: float, one: Colour, other: Colour | None = None, stripes: float = 0) -> Shape:
    """A sphere, with stripes of two colours along z."""

    def hit(origins: Places, directions: Places) -> Hit:
        arm = origins - origins.new_tensor(centre)
        along = (arm * directions).sum(dim=1)
        under = along.square() - arm.square().sum(dim=1) + radius**2
        distance = -along - under.clamp(min=0).sqrt()
        normal = (arm + distance[:, None] * directions) / radius
        share = (torch.sin(stripes * math.pi * normal[:, 2]) * 4).clamp(-1, 1) / 2 + 0.5
        return Hit(_met(distance, under > 0), normal, _mixed(share, one, other or one))

    return hit


def cube(centre: Sequence[float], half: float, turn: float, one: Colour) -> Shape:
    """A cube that stands upright, turned about z."""
    cos, sin = math.cos(turn), math.sin(turn)

    def hit(origins: Places, directions: Places) -> Hit:
        to_own = origins.new_tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        start, way = (origins - origins.new_tensor(centre)) @ to_own, directions @ to_own
        way = torch.where(way.abs() < 1e-9, way.new_tensor(1e-9), way)
        faces = torch.minimum((-half - start) / way, (half - start) / way)
        distance, axis = faces.max(dim=1)
        leaving = torch.maximum((-half - start) / way, (half - start) / way).amin(dim=1)
        normal = -way.sign() * F.one_hot(axis, 3)
        colour = _mixed(torch.ones_like(distance), one, one)
        return Hit(_met(distance, leaving > distance), normal.to(origins) @ to_own.T, colour)

    return hit


def floor(height: float, radius: float, one: Colour, other: Colour) -> Shape:
    """A round floor with soft waves of two colours."""

    def hit(origins: Places, directions: Places) -> Hit:
        fall = torch.where(directions[:, 2].abs() < 1e-9, directions.new_tensor(1e-9), directions[:, 2])
        distance = (height - origins[:, 2]) / fall
        points = origins + distance[:, None] * directions
        share = 0.5 + 0.25 * torch.sin(5 * points[:, 0]) + 0.25 * torch.sin(5 * points[:, 1])
        normal = torch.zeros_like(points)
        normal[:, 2] = 1
        inside = points[:, :2].square().sum(dim=1) < radius**2
        return Hit(_met(distance, inside), normal, _mixed(share, one, other))

    return hit


@dataclass(frozen=True)
class Seen:
    """What rays have met so far: colours, and how far away."""

    origins: Places
    directions: Places
    distance: Float[Tensor, " ray"]
    colours: Places
    first: Float[Tensor, " ray"]
    """1 where the last shape is what is seen."""

    @classmethod
    def sky(cls, camera: Camera, poses: Poses) -> "Seen":
        """The sky, along the rays of views."""
        fine = camera.scaled(FINER * camera.height, FINER * camera.width)
        origins, directions = (part.reshape(-1, 3) for part in fine.rays(poses))
        count = len(origins)
        empty = torch.full((count,), math.inf), origins.new_tensor(SKY).repeat(count, 1), torch.zeros(count)
        return cls(origins.contiguous(), directions, *empty)

    def before(self, shape: Shape, bound: tuple[Sequence[float], float] | None = None) -> "Seen":
        """With a shape before all that.

        Args:
            shape: The shape.
            bound: Middle and radius of a sphere around it, outside which rays are not looked at.
        """
        rows = torch.arange(len(self.origins)) if bound is None else self._near(*bound)
        hit = shape(self.origins[rows], self.directions[rows])
        closer = hit.distance < self.distance[rows]
        rows = rows[closer]
        light = 0.5 + 0.5 * (hit.normal[closer] @ self.origins.new_tensor(LAMP)).clamp(min=0)
        colours, distance, first = self.colours.clone(), self.distance.clone(), torch.zeros_like(self.first)
        colours[rows], distance[rows], first[rows] = hit.colour[closer] * light[:, None], hit.distance[closer], 1.0
        return replace(self, colours=colours, distance=distance, first=first)

    def _near(self, middle: Sequence[float], radius: float) -> Tensor:
        arm = self.origins - self.origins.new_tensor(middle)
        along = torch.linalg.vecdot(arm, self.directions)
        return (torch.linalg.vecdot(arm, arm) - along.square() < radius**2).nonzero()[:, 0]

    def pictures(
        self, camera: Camera
    ) -> tuple[Float[Tensor, "view 3 height width"], Float[Tensor, "view height width"]]:
        """Pictures between -1 and 1, and the share of each pixel that the last shape covers."""
        shape = (-1, FINER * camera.height, FINER * camera.width)
        pictures = F.avg_pool2d(self.colours.view(*shape, 3).permute(0, 3, 1, 2), FINER)
        return pictures * 2 - 1, F.avg_pool2d(self.first.view(shape)[:, None], FINER)[:, 0]


def cameras_around(count: int) -> Poses:
    """Poses around the middle at several heights, evenly turned by the golden angle."""
    number = torch.arange(count, dtype=torch.float64)
    turn = number * math.pi * (3 - math.sqrt(5))
    rise = torch.deg2rad(15 + 30 * ((number * 0.618) % 1))
    places = DISTANCE * torch.stack([rise.cos() * turn.cos(), rise.cos() * turn.sin(), rise.sin()], dim=1)
    return looking(places, torch.zeros_like(places), places.new_tensor([0.0, 0.0, 1.0])).float()


def camera_of(side: int) -> Camera:
    """The camera of simulated views, of so many pixels a side."""
    focal = side / 2 / math.tan(ANGLE / 2)
    return Camera(side, side, focal, focal, side / 2, side / 2)


@functools.lru_cache(maxsize=8)
def simulated(name: str, side: int = 64, views: int = 36, held_out: int = 6) -> Scene:
    """A simulated scene.

    Args:
        name: spheres or objects.
        side: Pixels of a view's side.
        views: Number of views, held-out ones included.
        held_out: Number of held-out views.
    """
    camera, poses = camera_of(side), cameras_around(views)
    test = spread(views, held_out)
    train = torch.tensor([row for row in range(views) if row not in test.tolist()])
    sky = Seen.sky(camera, poses)
    if name == "spheres":
        every = Views(_spheres(sky).pictures(camera)[0], poses)
        return Scene(name, every.select(train), every.select(test), camera, NEAR, FAR, BOX)
    ground = sky.before(floor(GROUND, 0.95, (0.55, 0.5, 0.42), (0.8, 0.76, 0.66)))
    pictures, masks = _object(ground, 0).pictures(camera)
    every = Views(pictures, poses)
    scene = Scene(name, every.select(train), every.select(test), camera, NEAR, FAR, BOX)
    others = tuple(_of_class(ground, camera, poses, label) for label in range(len(CLASSES)))
    return replace(scene, others=others, classes=CLASSES, label=0, masks=(masks[train] > 0.5).float())


NAMES = ("spheres", "objects")
"""The simulated scenes."""


def _spheres(sky: Seen) -> Seen:
    white = (0.95, 0.93, 0.88)
    for centre, radius, colour, stripes in (
        ((0.35, 0.3, -0.2), 0.5, (0.8, 0.2, 0.2), 3),
        ((-0.5, 0.2, 0.05), 0.4, (0.2, 0.5, 0.25), 4),
        ((0.0, -0.5, 0.1), 0.35, (0.2, 0.3, 0.8), 5),
    ):
        sky = sky.before(ball(centre, radius, colour, white, stripes), (centre, radius))
    return sky


def _object(ground: Seen, label: int, size: float = 1.0, turn: float = 0.4, x: float = 0.0, y: float = 0.0) -> Seen:
    """An object of a class on the floor."""
    colour, shape = CLASSES[label].split()
    reach = 0.5 * size if shape == "ball" else 0.42 * size
    centre = (x, y, GROUND + reach)
    if shape == "ball":
        return ground.before(ball(centre, reach, COLOURS[colour]), (centre, reach))
    return ground.before(cube(centre, reach, turn, COLOURS[colour]), (centre, 1.74 * reach))


def _of_class(ground: Seen, camera: Camera, poses: Poses, label: int) -> Views:
    """Views of scenes of a class from all cameras; those of the first variant are the object as it is."""
    draw = torch.Generator().manual_seed(derived_seed(label, "simulated scenes of a class"))
    found = []
    for variant in range(VARIANTS):
        size, turn, x, y = torch.rand(4, generator=draw).tolist()
        how = (0.85 + 0.3 * size, math.pi * turn, 0.3 * x - 0.15, 0.3 * y - 0.15) if variant else ()
        found.append(_object(ground, label, *how).pictures(camera)[0])
    return Views(torch.cat(found), poses.repeat(VARIANTS, 1, 1))


def _met(distance: Tensor, where: Tensor) -> Tensor:
    return torch.where(where & (distance > 0), distance, distance.new_tensor(math.inf))


def _mixed(share: Tensor, one: Colour, other: Colour) -> Places:
    first, second = (share.new_tensor(colour) for colour in (one, other))
    return second + share[:, None] * (first - second)
