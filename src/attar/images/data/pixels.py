"""Storage of pixels: decoded in memory, or encoded and decoded when they are drawn."""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from attar.core.errors import Diverged, InputError
from attar.core.settings import Range, Settings
from attar.images.data.streaming import Picture, Pictures, in_threads

Batch = Float[Tensor, "batch channel height width"] | UInt8[Tensor, "batch channel height width"]

PORTION = 2**22
"""Number of pixel values that are processed together if all images are needed: 34 MB in double precision."""


@dataclass(frozen=True, kw_only=True)
class Form(Settings):
    """Settings of finding and reading images."""

    size: Annotated[int, Range(1)] | None = None
    """Side, in pixels, to which the central square of every picture is scaled."""
    memory: Annotated[float, Range(0)] = 4.0
    """Memory budget for decoded pixels, in GB."""
    image: str | None = None
    """Column of the images, if there are columns."""
    label: str | None = None
    """Column of the labels, if there are columns."""

    def holds(self, images: int, shape: tuple[int, int, int]) -> bool:
        """Whether this number of images of this shape is within the budget."""
        return images * math.prod(shape) <= self.memory * 1e9


@runtime_checkable
class Pixels(Protocol):
    """Images by row number, all of one shape: uint8, or float32 in [0, 1]."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image: channels, height, width."""

    def __len__(self) -> int:
        """The number of images."""

    def __getitem__(self, rows: Int[Tensor, " batch"]) -> Batch:
        """The images of these rows, in this order."""

    def select(self, rows: Int[Tensor, " row"]) -> "Pixels":
        """The images of only these rows, in this order."""

    def content(self) -> Iterator[bytes]:
        """Yield the bytes that a fingerprint is computed from. They change with any pixel."""


@dataclass(frozen=True)
class InMemory:
    """One tensor of pixels."""

    tensor: Batch

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image: channels, height, width."""
        _, channels, height, width = self.tensor.shape
        return channels, height, width

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, rows: Int[Tensor, " batch"]) -> Batch:
        return self.tensor[rows.to(self.tensor.device)]

    def select(self, rows: Int[Tensor, " row"]) -> "InMemory":
        """A copy of these rows."""
        return InMemory(self[rows])

    def content(self) -> Iterator[bytes]:
        """Yield the pixels."""
        for rows in portions(torch.arange(len(self)), self.shape):
            yield self[rows].contiguous().numpy().tobytes()


@dataclass(frozen=True)
class Encoded:
    """Encoded pictures that are decoded each time they are drawn, for sets above the memory budget."""

    pictures: Pictures
    rows: Int[Tensor, " image"]
    """Rows of the pictures that hold these images."""
    shape: tuple[int, int, int]
    size: int | None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Int[Tensor, " batch"]) -> UInt8[Tensor, "batch channel height width"]:
        return decode_all(self.pictures, self.rows[rows].tolist(), self.shape, self.size)

    def select(self, rows: Int[Tensor, " row"]) -> "Encoded":
        """The pictures of these rows."""
        return replace(self, rows=self.rows[rows])

    def content(self) -> Iterator[bytes]:
        """Yield the digests of the encoded pictures."""
        yield self.pictures.digests[self.rows].numpy().tobytes()


def joined(first: Any, second: Any, order: Int[Tensor, " image"]) -> Pixels:
    """Join two parts of the same images, in the given order."""
    if isinstance(first, InMemory):
        return InMemory(torch.cat([first.tensor, second.tensor])[order])
    whole: Pixels = replace(first, rows=torch.cat([first.rows, second.rows])[order])
    return whole


@dataclass(frozen=True)
class Split:
    """Images and their labels."""

    pixels: Pixels
    labels: Int[Tensor, " image"]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: Int[Tensor, " row"]) -> "Split":
        """The images and labels of only these rows, in this order."""
        return Split(self.pixels.select(rows), self.labels[rows])


Loaded = tuple[str, Split, Split | None, tuple[str, ...]]
"""Name, training split, test split (if there is one) and class names."""


def eight_bits(unit: Tensor, *, rounded: bool = True) -> Tensor:
    """Convert pixels, clipped to [0, 1], to 8 bits. NaN is refused, because 8-bit pixels cannot represent it.

    Raises:
        Diverged: A pixel is NaN.
    """
    if unit.isnan().any():
        raise Diverged.of("pixels became nan")
    values = unit.clamp(0, 1).mul(255)
    return (values.round() if rounded else values).byte()


def portions(rows: Int[Tensor, " row"], shape: tuple[int, int, int]) -> tuple[Int[Tensor, " portion"], ...]:
    """Rows in portions of about `PORTION` pixel values."""
    return rows.split(max(1, PORTION // math.prod(shape)))


def hold(pictures: Pictures, form: Form, like: tuple[int, int, int] | None = None) -> InMemory | Encoded:
    """Decode pictures into memory, or leave them encoded if they would exceed the budget.

    Args:
        pictures: The pictures, of one size unless `form` gives a size to scale to.
        form: The budget and the size.
        like: The shape of the other images of the set. Default: that of the first picture.

    Raises:
        InputError: A picture cannot be decoded, or has another size.
    """
    found = shape_of(pictures, form)
    shape = like or found
    if shape[1:] != found[1:]:
        raise InputError(
            f"training images are {shape[2]}×{shape[1]}, but {pictures.where(0)} is {found[2]}×{found[1]}. "
            f"Scale them to one size with --size {min(shape[1:])}."
        )
    rows = torch.arange(len(pictures))
    if form.holds(len(rows), shape):
        return InMemory(decode_all(pictures, rows.tolist(), shape, form.size))
    return Encoded(pictures, rows, shape, form.size)


def shape_of(pictures: Pictures, form: Form, looked_at: int = 256) -> tuple[int, int, int]:
    """The shape of the first picture. It has one channel only if all of some evenly spaced pictures are grey."""
    rows = sorted({number * len(pictures) // looked_at for number in range(looked_at)})
    looked = pictures.read(rows)
    grey = all(map(is_grey, looked))
    height, width, channels = decode(looked[0], grey=grey, size=form.size, where=partial(pictures.where, 0)).shape
    return channels, height, width


def decode_all(
    pictures: Pictures, rows: list[int], shape: tuple[int, int, int], size: int | None
) -> UInt8[Tensor, "batch channel height width"]:
    """Decode these rows on all cores into one tensor.

    Raises:
        InputError: An image cannot be decoded, or differs in size from the first and no `size` is given.
    """
    images = torch.empty(len(rows), *shape, dtype=torch.uint8)

    def fill(places: list[int]) -> None:
        wanted = [rows[place] for place in places]
        for place, row, data in zip(places, wanted, pictures.read(wanted), strict=True):
            array = decode(data, grey=shape[0] == 1, size=size, where=partial(pictures.where, row))
            if array.shape != (shape[1], shape[2], shape[0]):
                height, width = array.shape[:2]
                raise InputError(
                    f"images differ in size: {pictures.where(0)} is {shape[2]}×{shape[1]}, "
                    f"{pictures.where(row)} is {width}×{height}. Scale them to one size with --size {min(shape[1:])}."
                )
            images[place] = torch.from_numpy(array).permute(2, 0, 1)

    in_threads(fill, list(range(len(rows))))
    return images


def decode(data: Picture, *, grey: bool, size: int | None, where: Callable[[], str]) -> np.ndarray:
    """One image as `[height, width, channel]` bytes, upright; its central square is scaled to `size` if given.

    JPEG's draft mode, which decodes at a fraction of the size, is not used. From more than twice the wanted side its
    error is up to 20 grey levels, from more than four times up to 9.
    """
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as file:
            image = _plain(_upright(file)).convert("L" if grey else "RGB")
    except Exception as error:  # Pillow raises a dozen types, SyntaxError and struct.error among them
        raise InputError(f"{where()} cannot be decoded as an image ({type(error).__name__}).") from None
    if size is not None and image.size != (size, size):
        image = _middle_square(image).resize((size, size), Image.Resampling.LANCZOS)
    return np.array(image).reshape(image.height, image.width, -1)


def is_grey(data: Picture) -> bool:
    """Whether an image file has one channel."""
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as file:
            return file.mode in ("1", "L", "I;16")
    except Exception:  # reported, with its row, when it is decoded
        return False


def from_numbers(images: Any) -> Batch:
    """Pixels from `[image, height, width]`, `[image, height, width, channel]` or `[image, channel, height, width]`.

    Raises:
        InputError: The shape is another one, numbers are neither bytes nor floats from 0 to 1, or there are no images.
    """
    tensor = torch.as_tensor(np.asarray(images) if not isinstance(images, Tensor) else images)
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(1)
    if len(tensor) == 0:
        raise InputError("there are no images.")
    if tensor.ndim != 4 or not (tensor.shape[1] in (1, 3) or tensor.shape[3] in (1, 3)):
        raise InputError(f"images have shape {tuple(tensor.shape)}; give [image, height, width] with 1 or 3 channels.")
    if tensor.shape[1] not in (1, 3):
        tensor = tensor.permute(0, 3, 1, 2).contiguous()
    if tensor.dtype == torch.uint8:
        return tensor
    if not tensor.is_floating_point():
        raise InputError(f"images are {tensor.dtype}; give uint8, or floats from 0 to 1.")
    if not tensor.isfinite().all():
        row = int(torch.nonzero(~tensor.isfinite().flatten(1).all(dim=1))[0])
        raise InputError(f"image {row} has pixels that are not finite (NaN or infinite).")
    if tensor.min() < 0 or tensor.max() > 1:
        raise InputError(f"float pixels run from {tensor.min():.3g} to {tensor.max():.3g}; give 0 to 1, or uint8.")
    return tensor.float()


def _upright(image: Image.Image) -> Image.Image:
    """Rotate a picture by the orientation in its metadata. Unreadable metadata are ignored."""
    orientation = 1
    with suppress(Exception):
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def _plain(image: Image.Image) -> Image.Image:
    """Convert a picture to a mode that converts to colours or grey levels without loss or warnings."""
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")  # as Pillow asks; the colours are the same
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # Pillow would clip at 255
    return image


def _middle_square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
