"""Where pixels live: in memory as they are, or encoded and decoded when drawn."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from attar.core.errors import InputError

Batch = Float[Tensor, "batch channel height width"] | UInt8[Tensor, "batch channel height width"]


@runtime_checkable
class Pixels(Protocol):
    """Images by row number, all of one shape: uint8, or float32 in [0, 1]."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    def __len__(self) -> int:
        """How many images there are."""

    def __getitem__(self, rows: Int[Tensor, " batch"]) -> Batch:
        """The images of these rows, in this order."""


@dataclass(frozen=True)
class InMemory:
    """One tensor of pixels."""

    tensor: Batch

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.tensor.shape
        return channels, height, width

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, rows: Int[Tensor, " batch"]) -> Batch:
        return self.tensor[rows.to(self.tensor.device)]


@dataclass(frozen=True)
class Encoded:
    """Image files in memory or on disk, decoded each time they are drawn: for sets above the memory budget."""

    files: "list[bytes] | list[Path]"
    shape: tuple[int, int, int]
    size: int | None
    where: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Int[Tensor, " batch"]) -> UInt8[Tensor, "batch channel height width"]:
        return decode_all(self.files, rows.tolist(), self.shape, self.size, self.where)


@dataclass(frozen=True)
class Split:
    """Images and their labels."""

    pixels: Pixels
    labels: Int[Tensor, " image"]

    def __len__(self) -> int:
        return len(self.labels)


def decode_all(
    files: "list[bytes] | list[Path]",
    rows: list[int],
    shape: tuple[int, int, int],
    size: int | None,
    where: Callable[[int], str],
) -> UInt8[Tensor, "batch channel height width"]:
    """Decode these rows on all cores into one tensor.

    Raises:
        InputError: An image that cannot be decoded, or one of another size than the first while no `size` is given.
    """
    images = torch.empty(len(rows), *shape, dtype=torch.uint8)

    def fill(place: int) -> None:
        row = rows[place]
        array = decode(files[row], grey=shape[0] == 1, size=size, where=lambda: where(row))
        if array.shape != (shape[1], shape[2], shape[0]):
            height, width = array.shape[:2]
            raise InputError(
                f"images differ in size: {where(0)} is {shape[2]}×{shape[1]}, {where(row)} is {width}×{height}. "
                f"Bring them to one size with --size {min(shape[1:])}."
            )
        images[place] = torch.from_numpy(array).permute(2, 0, 1)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(fill, range(len(rows)), chunksize=256):
            pass
    return images


def decode(data: bytes | Path, *, grey: bool, size: int | None, where: Callable[[], str]) -> np.ndarray:
    """One image as `[height, width, channel]` bytes, its middle square scaled to `size` if given."""
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as file:
            image = file.convert("L" if grey else "RGB")
    except Exception as error:  # Pillow raises a dozen types, SyntaxError and struct.error among them
        raise InputError(f"{where()} cannot be decoded as an image ({type(error).__name__}).") from None
    if size is not None and image.size != (size, size):
        image = _middle_square(image).resize((size, size), Image.Resampling.LANCZOS)
    return np.array(image).reshape(image.height, image.width, -1)


def is_grey(data: bytes | Path) -> bool:
    """Whether an image file has one channel."""
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as file:
            return file.mode in ("1", "L", "I;16")
    except Exception:  # reported, with its row, when it is decoded
        return False


def _middle_square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
