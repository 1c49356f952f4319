"""Posed pictures from files: transforms.json as nerfstudio and instant-ngp write it, and LLFF's poses_bounds.npy."""

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attar.core.errors import InputError, shortened
from attar.core.jsonfiles import read_json
from attar.images.data.decoding import TRANSPARENT, Unreadable, opened
from attar.scenes.poses import centre_of, checked, spread
from attar.scenes.reading import BOUNDS, SIMULATED, SPLIT, TRANSFORMS, Reading
from attar.scenes.rendering import Box
from attar.scenes.sources import Camera, Poses, Scene, Views

MULTIPLE = 8
"""Sides of pictures are cut to multiples of it, so that autoencoders can halve them three times."""
ENDINGS = ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG")
"""What may be missing at the end of a picture's name."""
LENSES = ("k1", "k2", "p1", "p2")
LAST_ROW = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
"""Of a matrix that turns and moves."""
OTHER_FORM = 0.05
"""Relative difference of height by width from which a camera and its pictures are of another form."""
SPLITS = {"train": 0, "val": 1, "test": 1}
LLFF_FOLDERS = ("images", "images_2", "images_4", "images_8")


@dataclass(frozen=True)
class Shot:
    """A picture that files name, with its pose."""

    path: Path
    pose: Any
    """A matrix of numbers, as it was read."""
    held_out: bool | None = None
    """Whether the files say that it is held out; None where they say nothing."""


@dataclass(frozen=True)
class Lens:
    """The camera of the files, with its distortion."""

    camera: Camera
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    """k1, k2, p1 and p2 of OpenCV's model."""


def loaded(data: Any, how: Reading) -> Scene:
    """The scene that data stand for.

    Args:
        data: A `Scene`, which passes as it is once it is checked; the name of a simulated one; a folder or its file.
        how: Settings.

    Raises:
        InputError: There is no such scene, or pictures or poses cannot be used.
    """
    if isinstance(data, Scene):
        return check(_single(data))
    if data in SIMULATED:
        return check(_bounded(_simulated(str(data), how), how))
    if not isinstance(data, (str, Path)):
        raise InputError(f"a scene cannot be made of a {type(data).__name__}. Give a folder, a name or a Scene.")
    path = Path(data)
    folder = path.parent if path.name in (TRANSFORMS, BOUNDS) else path
    if (folder / TRANSFORMS).is_file() or (folder / SPLIT).is_file():
        shots, lens = _transforms(folder)
        return check(_scene(folder, shots, lens, None, how))
    if (folder / BOUNDS).is_file():
        shots, lens, bounds = _llff(folder)
        return check(_scene(folder, shots, lens, bounds, how))
    raise InputError(
        f"{shortened(str(data))} is no scene: give {' or '.join(SIMULATED)}, or a folder with {TRANSFORMS} or "
        f"{BOUNDS}; for image-edit labelled images, such as digits."
    )


def _single(scene: Scene) -> Scene:
    """The scene itself if its poses and pictures are in single precision, else a copy that is."""
    if all(one.dtype == torch.float32 for part in (scene.train, scene.test) for one in (part.images, part.poses)):
        return scene
    train, test = (Views(part.images.float(), part.poses.float()) for part in (scene.train, scene.test))
    return replace(scene, train=train, test=test)


def check(scene: Scene) -> Scene:
    """The scene itself.

    Raises:
        InputError: Pictures or poses are not finite, not of one size, out of range, or do not fit one another.
    """
    camera = scene.camera
    numbers = (camera.fx, camera.fy, camera.cx, camera.cy)
    if not all(map(math.isfinite, numbers)) or min(camera.fx, camera.fy) <= 0:
        raise InputError(
            f"the camera of {scene.name} has the focal lengths {camera.fx:g} and {camera.fy:g} and the centre "
            f"{camera.cx:g}, {camera.cy:g}. Give numbers of pixels, the lengths above 0."
        )
    for who, views in (("training", scene.train), ("held-out", scene.test)):
        wanted = (len(views.poses), 3, camera.height, camera.width)
        if tuple(views.images.shape) != wanted:
            raise InputError(
                f"{who} pictures of {scene.name} are {list(views.images.shape)}; by the poses and the camera they must "
                f"be {list(wanted)}."
            )
        if not views.images.isfinite().all():
            raise InputError(f"{who} pictures of {scene.name} hold values that are infinite or not numbers.")
        if len(views) and float(views.images.abs().max()) > 1 + 1e-4:
            most = float(views.images.abs().max())
            raise InputError(f"{who} pictures of {scene.name} reach {most:.4g}; give values between -1 and 1.")
        checked(views.poses, f" of the {who} views of {scene.name}")
    if not len(scene.train):
        raise InputError(f"{scene.name} has no training view. Hold out fewer.")
    if not 0 <= scene.near < scene.far < math.inf:
        raise InputError(
            f"rays of {scene.name} run from {scene.near:g} to {scene.far:g}. Give --near-plane below --far-plane."
        )
    if not all(-math.inf < low < high < math.inf for low, high in zip(*scene.box, strict=True)):
        raise InputError(
            f"the box of {scene.name} is {scene.box}; every largest coordinate must be above the smallest."
        )
    if len(scene.others) not in (0, len(scene.classes)) or scene.label not in (None, *range(len(scene.classes))):
        raise InputError(
            f"{scene.name} has {len(scene.classes)} classes, other views of {len(scene.others)}, and the label "
            f"{scene.label}. Give views of each class, and the number of a class."
        )
    if scene.masks is not None and scene.masks.shape != scene.train.images[:, 0].shape:
        raise InputError(
            f"masks of {scene.name} are {list(scene.masks.shape)}; give one for each training view, of its size."
        )
    return scene


# ------------------------------------------------------------------------------------------------------------ the files


def _simulated(name: str, how: Reading) -> Scene:
    from attar.scenes.simulated import simulated

    given = {} if how.held_out_views is None else {"held_out": min(how.held_out_views, 35)}
    return simulated(name, how.size or 64, **given)


def _transforms(folder: Path) -> tuple[list[Shot], Lens]:
    """What transforms.json says, or transforms_train.json and those beside it."""
    if (folder / TRANSFORMS).is_file():
        facts = _facts(folder / TRANSFORMS)
        return _shots(folder, facts, None), _lens(folder / TRANSFORMS, facts)
    found: list[Shot] = []
    for split in SPLITS:
        path = folder / f"transforms_{split}.json"
        if path.is_file():
            found += _shots(folder, _facts(path), split != "train")
    return found, _lens(folder / SPLIT, _facts(folder / SPLIT))


def _facts(path: Path) -> dict[str, Any]:
    facts = read_json(path)
    if not isinstance(facts, dict) or not isinstance(facts.get("frames"), list) or not facts["frames"]:
        raise InputError(f"{path} names no frames. Give a file as nerfstudio or instant-ngp writes it.")
    return facts


def _shots(folder: Path, facts: dict[str, Any], held_out: bool | None) -> list[Shot]:
    named: dict[str, bool] = {}
    for split, which in SPLITS.items():
        names = facts.get(f"{split}_filenames")
        if names is not None and not isinstance(names, list):
            raise InputError(f"{split}_filenames of {folder} is {shortened(str(names))}; it must be a list of names.")
        named |= {str(name): which > 0 for name in names or ()}
    found = []
    for number, frame in enumerate(facts["frames"]):
        if not isinstance(frame, dict) or not {"file_path", "transform_matrix"} <= frame.keys():
            raise InputError(f"frame {number} of {folder} has no file_path or no transform_matrix.")
        apart = [key for key in ("fl_x", "w", "camera_angle_x") if frame.get(key, facts.get(key)) != facts.get(key)]
        others = [other for other in facts["frames"] if isinstance(other, dict)]
        if apart and any(frame[apart[0]] != other.get(apart[0]) for other in others):
            raise InputError(
                f"frame {number} of {folder} has a camera of its own ({apart[0]}); give one for all frames."
            )
        name = frame["file_path"]
        if not isinstance(name, str) or not Path(name).name.strip(".") or "\0" in name:
            raise InputError(f"frame {number} of {folder} names no picture: its file_path is {shortened(repr(name))}.")
        found.append(Shot(_found(folder / name), frame["transform_matrix"], named.get(name, held_out)))
    return sorted(found, key=lambda shot: str(shot.path))


def _found(path: Path) -> Path:
    """The file of a picture's name, whose ending may be missing, and which Windows may have written."""
    if "\\" in str(path) and not path.is_file():
        path = Path(str(path).replace("\\", "/"))
    return next((place for ending in ENDINGS if (place := path.with_name(path.name + ending)).is_file()), path)


def _lens(path: Path, facts: dict[str, Any]) -> Lens:
    """The camera of a file; of width 0 where the file leaves the size to the pictures."""
    facts = {**facts["frames"][0], **facts}
    model = str(facts.get("camera_model", "OPENCV"))
    if "FISHEYE" in model or "EQUIRECT" in model or facts.get("is_fisheye"):
        raise InputError(
            f"{path} has a camera of the model {model}, which is not pinhole. Undistort the pictures first."
        )
    width, height = (_positive(path, facts, key) for key in ("w", "h"))
    across = _positive(path, facts, "fl_x") or -math.tan(_positive(path, facts, "camera_angle_x", math.pi) / 2)
    if not across:
        raise InputError(f"{path} has neither fl_x nor camera_angle_x, so the camera is unknown.")
    down = _positive(path, facts, "fl_y") or across
    middle = _number(path, facts, "cx", 0.0), _number(path, facts, "cy", 0.0)
    camera = Camera(round(width), round(height), across, down, *middle)
    return Lens(camera, tuple(_number(path, facts, key, 0.0) for key in LENSES))


def _number(path: Path, facts: dict[str, Any], key: str, usual: float) -> float:
    value = facts.get(key, usual)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{key} in {path} is {shortened(str(value))}; it must be a number.")
    return float(value)


def _positive(path: Path, facts: dict[str, Any], key: str, most: float = 1e9) -> float:
    """A number above 0; 0 of one that the file leaves out."""
    value = _number(path, facts, key, 0.0)
    if key in facts and not 0 < value < most:
        raise InputError(f"{key} in {path} is {value:g}; it must be above 0 and below {most:.4g}.")
    return value


def _llff(folder: Path) -> tuple[list[Shot], Lens, tuple[float, float]]:
    """What poses_bounds.npy says: for each picture a pose of 3 x 5, and its nearest and farthest depth."""
    try:
        rows = np.load(folder / BOUNDS, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{folder / BOUNDS} is damaged: it is no array of NumPy.") from None
    if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "fiu":
        raise InputError(f"{folder / BOUNDS} holds no array of numbers. Give a file as LLFF writes it.")
    if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows):
        raise InputError(f"{folder / BOUNDS} is {list(rows.shape)}; it must have 17 numbers for each picture.")
    rows = rows.astype(np.float64)
    if not np.isfinite(rows).all():
        raise InputError(f"{folder / BOUNDS} holds values that are infinite or not numbers.")
    place = next((folder / name for name in LLFF_FOLDERS if (folder / name).is_dir()), folder / LLFF_FOLDERS[0])
    paths = sorted(path for path in place.glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if len(paths) != len(rows):
        raise InputError(f"{place} has {len(paths)} pictures, but {BOUNDS} has {len(rows)} poses.")
    matrices = rows[:, :15].reshape(-1, 3, 5)
    height, width, focal = (float(value) for value in matrices[0, :, 4])
    if np.abs(matrices[:, :, 4] - matrices[0, :, 4]).max() > 1e-3 * np.abs(matrices[0, :, 4]).max():
        raise InputError(f"the pictures of {folder / BOUNDS} have several cameras; give one for all.")
    if not 0 < min(height, width, focal) <= max(height, width, focal) < 1e9:
        raise InputError(
            f"{folder / BOUNDS} has the height {height:g}, the width {width:g} and the focal length {focal:g}; they "
            "must be above 0."
        )
    # Its axes are down, right and backwards; ours are right, up and backwards.
    turned = np.concatenate([matrices[:, :, 1:2], -matrices[:, :, :1], matrices[:, :, 2:4]], axis=2)
    shots = [Shot(path, pose.tolist()) for path, pose in zip(paths, turned, strict=True)]
    camera = Camera(round(width), round(height), focal, focal, width / 2, height / 2)
    return shots, Lens(camera), (float(rows[:, 15].min()), float(rows[:, 16].max()))


# ------------------------------------------------------------------------------------------------ pictures into a scene


def _scene(folder: Path, shots: list[Shot], lens: Lens, bounds: tuple[float, float] | None, how: Reading) -> Scene:
    missing = [shot.path for shot in shots if not shot.path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} of {len(shots)} pictures are missing, the first is {missing[0]}.")
    poses = checked(_matrices(folder, shots), f" of {folder}")
    pictures = [_picture(shot.path) for shot in shots]
    shape = pictures[0].shape
    for shot, picture in zip(shots, pictures, strict=True):
        if picture.shape != shape:
            raise InputError(
                f"{shot.path} is {picture.shape[1]}×{picture.shape[2]}, but {shots[0].path.name} is "
                f"{shape[1]}×{shape[2]}. All views need one size."
            )
    camera = _fitted(folder, lens.camera, *shape[1:])
    images = torch.stack(pictures)
    if any(lens.distortion):
        images = straightened(images, camera, lens.distortion)
    images, camera = _sized(images, camera, how.size)
    every = Views(images.clamp(-1, 1), poses)
    test = _held_out(shots, how)
    rows = torch.arange(len(shots))
    near, far, box = _space(folder, camera, poses, bounds, how)
    name = folder.resolve().name
    scene = Scene(name, every.select(rows[~test]), every.select(rows[test]), camera, near, far, box)
    return _bounded(scene, how)


def _matrices(folder: Path, shots: Sequence[Shot]) -> Poses:
    found = []
    for number, shot in enumerate(shots):
        try:
            one = torch.tensor(shot.pose, dtype=torch.float64)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            one = torch.zeros(0)
        which = f"the pose of view {number} of {folder} ({shot.path.name})"
        if tuple(one.shape) not in ((4, 4), (3, 4)):
            raise InputError(f"{which} is no matrix of 4 × 4 numbers.")
        if one.isfinite().all() and (one[3:] - LAST_ROW).abs().gt(1e-3).any():
            last = ", ".join(f"{value:.4g}" for value in one[3].tolist())
            raise InputError(f"{which} has the last row {last}; it must be 0, 0, 0, 1. Is the matrix transposed?")
        found.append(one[:3])
    return torch.stack(found).float()


def _picture(path: Path) -> Float[Tensor, "3 height width"]:
    """A picture between -1 and 1, as its file has it; white lies behind transparent pixels."""
    try:
        with opened(path) as file:
            image = _eight_bits(file)
            clear = image.mode in TRANSPARENT or "transparency" in image.info
            image = image.convert("RGBA" if clear else "RGB")
    except Unreadable as why:
        raise InputError(f"{path} cannot be read as a picture: it {why}.") from None
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    if len(values) == 4:
        values = values[:3] * values[3:] + 1 - values[3:]
    return values * 2 - 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """A picture with 8 bits for each value."""
    if image.mode == "F":
        raise Unreadable("holds floats, whose range is not known")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 2**16 - 1) // 256).astype(np.uint8))
    return image.convert("LA") if image.mode == "La" else image


def _fitted(folder: Path, camera: Camera, height: int, width: int) -> Camera:
    """The camera of pictures of this size, which the file may have left open, or given for larger ones."""
    wide = camera.width or round(camera.height * width / height) or width
    high = camera.height or round(wide * height / width)
    if abs(wide * height - high * width) > OTHER_FORM * high * width:
        raise InputError(
            f"pictures of {folder} are {height}×{width}, but their camera is {high}×{wide}, of another form. Give "
            "pictures that are neither cut nor turned."
        )
    across, down = (-wide / 2 / f if f < 0 else f for f in (camera.fx, camera.fy))
    middle = (camera.cx or wide / 2), (camera.cy or high / 2)
    return Camera(wide, high, across, down, *middle).scaled(height, width)


def straightened(
    images: Float[Tensor, "view 3 height width"], camera: Camera, distortion: Sequence[float]
) -> Float[Tensor, "view 3 height width"]:
    """Pictures of a pinhole camera from those of a lens with OpenCV's distortion k1, k2, p1 and p2.

    Args:
        images: Distorted pictures.
        camera: The pinhole camera.
        distortion: The four numbers.
    """
    k1, k2, p1, p2 = distortion
    x = (torch.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (torch.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    y, x = torch.meshgrid(y, x, indexing="ij")
    square = x.square() + y.square()
    radial = 1 + k1 * square + k2 * square.square()
    moved_x = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x.square())
    moved_y = y * radial + p1 * (square + 2 * y.square()) + 2 * p2 * x * y
    places = torch.stack(
        [
            2 * (moved_x * camera.fx + camera.cx) / camera.width - 1,
            2 * (moved_y * camera.fy + camera.cy) / camera.height - 1,
        ],
        dim=-1,
    )
    grid = places[None].expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _sized(images: Tensor, camera: Camera, size: int | None) -> tuple[Tensor, Camera]:
    """Pictures of the wanted size, and their camera."""
    height, width = images.shape[2:]
    if size is None:
        tall, wide = (max(side // MULTIPLE * MULTIPLE, min(side, MULTIPLE)) for side in (height, width))
    else:
        tall = wide = min(height, width)
    top, left = (height - tall) // 2, (width - wide) // 2
    images = images[:, :, top : top + tall, left : left + wide]
    camera = replace(camera, width=wide, height=tall, cx=camera.cx - left, cy=camera.cy - top)
    if size is None or size == tall:
        return images, camera
    images = F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return images, camera.scaled(size, size)


def _held_out(shots: Sequence[Shot], how: Reading) -> Tensor:
    """Which views are held out: evenly spaced ones, or those that the files name."""
    count, told = len(shots), [shot.held_out for shot in shots]
    if how.held_out_views is None and any(told):
        return torch.tensor([bool(one) for one in told])
    wanted = min(max(1, count // 8), count - 1) if how.held_out_views is None else how.held_out_views
    if wanted >= count:
        raise InputError(f"held-out-views is {wanted}, but there are {count} views in all. Hold out fewer.")
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[spread(count, wanted)] = True
    return chosen


def _space(
    folder: Path, camera: Camera, poses: Poses, bounds: tuple[float, float] | None, how: Reading
) -> tuple[float, float, Box]:
    """Where rays begin and end, and the box: by bounds, or a cube around the point that all cameras look at.

    The cube is as large as what a camera sees there.
    """
    near, far = how.near_plane, how.far_plane
    if bounds is not None:
        near, far = _or(near, 0.9 * bounds[0]), _or(far, 1.1 * bounds[1])
    centre = centre_of(poses)
    if near is not None and far is not None and (bounds is not None or centre is None):
        return near, far, _seen(camera, poses, near, far)
    if centre is None:
        raise InputError(
            f"the cameras of {folder} do not look at one point, so it is unknown where the scene lies. "
            "Give --near-plane and --far-plane."
        )
    distances = (poses[:, :, 3] - centre).norm(dim=1)
    reach = float(distances.median()) * max(camera.width / camera.fx, camera.height / camera.fy) / 2
    around = math.sqrt(3) * reach
    low, high = (tuple((centre + side * reach).tolist()) for side in (-1, 1))
    nearest = max(float(distances.min()) - around, 0.05 * float(distances.min()))
    return _or(near, nearest), _or(far, float(distances.max()) + around), (low, high)


def _or(given: float | None, usual: float) -> float:
    return usual if given is None else given


def _seen(camera: Camera, poses: Poses, near: float, far: float) -> Box:
    """The box of all that the cameras see between two distances."""
    origins, directions = camera.rays(poses)
    corners = directions[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    points = torch.cat([origins[:, 0, :1] + distance * corners for distance in (near, far)]).reshape(-1, 3)
    low, high = (tuple(end.tolist()) for end in (points.amin(dim=0), points.amax(dim=0)))
    return low, high


def _bounded(scene: Scene, how: Reading) -> Scene:
    """The scene with the box and the distances that are given."""
    if how.box and len(how.box) != 6:
        raise InputError(f"box has {len(how.box)} numbers; give six: the smallest x, y and z, and the largest.")
    box = scene.box
    if how.box:
        x, y, z, far_x, far_y, far_z = how.box
        box = ((x, y, z), (far_x, far_y, far_z))
    near = scene.near if how.near_plane is None else how.near_plane
    far = scene.far if how.far_plane is None else how.far_plane
    return replace(scene, near=near, far=far, box=box)
