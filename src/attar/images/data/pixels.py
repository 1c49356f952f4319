"""Storage of pixels: decoded in memory, or encoded and decoded when they are drawn."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from attar.core.errors import Diverged, InputError
from attar.images.data.decoding import Unreadable, decode
from attar.images.data.form import Form
from attar.images.data.streaming import Pictures, in_threads

Batch = Float[Tensor, "batch channel height width"] | UInt8[Tensor, "batch channel height width"]

Shape = tuple[int, int, int]

PORTION = 2**22
"""Number of pixel values that are processed together if all images are needed: 34 MB in double precision."""


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
    form: Form

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Int[Tensor, " batch"]) -> UInt8[Tensor, "batch channel height width"]:
        images, bad = decode_all(self.pictures, self.rows[rows].tolist(), self.shape, self.form)
        if bad:
            raise BadPictures(list(bad.values()), len(rows))
        return images

    def select(self, rows: Int[Tensor, " row"]) -> "Encoded":
        """The pictures of these rows."""
        return replace(self, rows=self.rows[rows])

    def content(self) -> Iterator[bytes]:
        """Yield the digests of the encoded pictures, and how they are decoded if that is not as usual."""
        yield self.pictures.digests[self.rows].numpy().tobytes()
        usual = Form()
        if (self.form.background, self.form.pixel_bits) != (usual.background, usual.pixel_bits):
            yield f"{self.form.background} {self.form.pixel_bits}".encode()


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


@dataclass(frozen=True)
class Loaded:
    """What a reader has read."""

    name: str
    train: Split
    test: Split | None
    """The test images, if there are any."""
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What was left out or decided, in a sentence each."""


class BadPictures(InputError):  # noqa: N818
    """Pictures that cannot be read: all are counted, the first five are named."""

    def __init__(self, bad: Sequence[str], total: int, *, others: bool = True) -> None:
        """Make the message.

        Args:
            bad: What is wrong with each.
            total: The number of all pictures.
            others: Whether something is left without them.
        """
        self.bad, self.total, self.others = list(bad), total, others
        if not others:
            several = "" if len(bad) == 1 else f"{len(bad):,} of {total:,} pictures cannot be read: "
            super().__init__(f"{several}{first_of(bad)}.")
        elif len(bad) == 1:
            super().__init__(f"{bad[0]}. Leave it out with --skip-bad.")
        else:
            super().__init__(
                f"{len(bad):,} of {total:,} pictures cannot be read: {first_of(bad)}. Leave them out with --skip-bad."
            )


def first_of(several: Sequence[str], most: int = 5) -> str:
    """The first few of several sentences, and the number of the others."""
    rest = f"; and {len(several) - most:,} more" if len(several) > most else ""
    return "; ".join(several[:most]) + rest


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


def decode_all(
    pictures: Pictures, rows: list[int], shape: Shape, form: Form, *, first: int = 0
) -> tuple[UInt8[Tensor, "batch channel height width"], dict[int, str]]:
    """Decode these rows on all cores into one tensor.

    Args:
        pictures: The pictures.
        rows: The rows to decode.
        shape: The shape that all must have.
        form: How they are decoded.
        first: A row of that shape, for messages.

    Returns:
        The images, and for rows that cannot be read what is wrong with them.

    Raises:
        InputError: An image differs in size from the first and no `size` is given, or its values have an unknown range.
    """
    images = torch.empty(len(rows), *shape, dtype=torch.uint8)

    def fill(places: list[int]) -> dict[int, str]:
        bad = {}
        wanted = [rows[place] for place in places]
        for place, row, data in zip(places, wanted, pictures.read(wanted), strict=True):
            try:
                array = decode(data, form, grey=shape[0] == 1, where=partial(pictures.where, row))
            except Unreadable as error:
                bad[row] = f"{pictures.where(row)} {error}"
                continue
            if array.shape != (shape[1], shape[2], shape[0]):
                height, width = array.shape[:2]
                raise InputError(
                    f"images differ in size: {pictures.where(first)} is {shape[2]}×{shape[1]}, "
                    f"{pictures.where(row)} is {width}×{height}. Scale them to one size with --size {min(shape[1:])}."
                )
            images[place] = torch.from_numpy(array).permute(2, 0, 1)
        return bad

    found: dict[int, str] = {}
    for part in in_threads(fill, list(range(len(rows)))):
        found |= part
    return images, found


def _as_tensor(images: Any) -> Tensor:
    """A tensor of an array or of nested sequences, in any layout."""
    try:
        array = np.asarray(images)
    except ValueError:
        raise InputError("images differ in size. Scale them to one size yourself.") from None
    if array.dtype.kind not in "biufc":
        raise InputError(f"images are {array.dtype}; give uint8, or floats from 0 to 1.")
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))


def from_numbers(images: Any) -> Batch:
    """Pixels from `[image, height, width]`, `[image, height, width, channel]` or `[image, channel, height, width]`.

    Raises:
        InputError: The shape is another one, numbers are neither bytes nor floats from 0 to 1, or there are no images.
    """
    tensor = images.detach() if isinstance(images, Tensor) else _as_tensor(images)
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(1)
    if tensor.numel() == 0:
        raise InputError("there are no images." if 0 in tensor.shape[:1] else "the images have no pixels.")
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
