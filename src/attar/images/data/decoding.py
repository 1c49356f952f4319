"""One encoded picture: the formats that are read, the meaning of their modes, and its conversion to bytes.

A mode says what its values mean: 8-bit levels, 16-bit levels, a palette, colours with transparency. It does not say how
many bits of 16 are in use, or the range of floats and 32-bit integers. Where only the values could tell, they are
refused with the setting that does (`pixel_bits`).
"""

import io
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from attar.core.errors import InputError
from attar.images.data.form import Form
from attar.images.data.streaming import NoPicture, Picture

NOT_READ = {"EPS", "WMF", "MPEG", "HDF5", "GRIB", "BUFR"}
"""Formats that Pillow only identifies, or gives to another program."""
GREY = ("1", "L", "LA", "La", "I", "F")
TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
LEVELLED = ("PPM", "PNG")
"""Formats whose integers Pillow scales to 16 bits."""
POINTER = b"version https://git-lfs.github.com/"
LEVELS = {"white": 255, "black": 0}
DARK = 2**14 - 1
"""Largest 16-bit value up to which a set of pictures seems to use fewer bits."""

Where = Callable[[], str]


@cache
def formats() -> tuple[str, ...]:
    """Names of the formats that are read: those of Pillow that need no other program."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - NOT_READ))


@cache
def endings() -> frozenset[str]:
    """Endings of the files that are read, in small letters, with the dot."""
    known = set(formats())
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in known)


class Unreadable(Exception):  # noqa: N818
    """A picture that cannot be read. The text says why, as the end of a sentence about it."""


@contextmanager
def opened(data: Picture) -> Iterator[Image.Image]:
    """An image file whose header has been read.

    Raises:
        Unreadable: It cannot be read, here or inside the `with`.
    """
    if isinstance(data, NoPicture):
        raise Unreadable(data.why)
    if isinstance(data, Path):
        _check_file(data)
    elif not data:
        raise Unreadable("is empty (zero bytes)")
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=formats()) as file:
            yield file
    except (InputError, Unreadable):
        raise
    except PermissionError:
        raise Unreadable("cannot be read (no permission)") from None
    except Exception as error:  # Pillow raises a dozen types, SyntaxError and struct.error among them
        if _is_pointer(data):
            raise Unreadable("is a pointer of Git LFS, not the picture itself") from None
        raise Unreadable(_reason(error)) from None


def _check_file(file: Path) -> None:
    try:
        status = file.stat()
    except PermissionError:
        raise Unreadable("cannot be read (no permission)") from None
    except OSError:
        raise Unreadable("is a broken link" if file.is_symlink() else "is missing") from None
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("is not a file")
    if status.st_size == 0:
        raise Unreadable("is empty (zero bytes)")


def _is_pointer(data: bytes | Path) -> bool:
    """Whether an unreadable picture is what Git LFS leaves in its place."""
    if isinstance(data, bytes):
        return data.startswith(POINTER)
    with data.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def _reason(error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, Image.DecompressionBombError):
        return "has more pixels than Pillow decodes"
    if not isinstance(error, UnidentifiedImageError) and ("truncated" in text or "broken data" in text):
        return "is truncated"
    return f"cannot be decoded as an image ({type(error).__name__})"


def decode(data: Picture, form: Form, *, grey: bool, where: Where) -> np.ndarray:
    """One image as `[height, width, channel]` bytes, upright; its central square is scaled to the size if one is given.

    JPEG's draft mode, which decodes at a fraction of the size, is not used. From more than twice the wanted side its
    error is up to 20 grey levels, from more than four times up to 9.

    Raises:
        Unreadable: The picture cannot be read.
        InputError: Its values have a range that has to be told.
    """
    with opened(data) as file:
        known = form if form.pixel_bits or file.format not in LEVELLED else replace(form, pixel_bits=16)
        image = _opaque(_plain(_upright(file), known, where), form).convert("L" if grey else "RGB")
    size = form.size
    if size is not None and image.size != (size, size):
        image = _middle_square(image).resize((size, size), Image.Resampling.LANCZOS)
    return np.array(image).reshape(image.height, image.width, -1)


def is_grey(data: Picture) -> bool:
    """Whether an image file has one channel, by its header.

    Raises:
        Unreadable: The header cannot be read.
    """
    with opened(data) as file:
        return file.mode in GREY or file.mode.startswith("I;16")


def most(data: Picture) -> tuple[int, bool] | None:
    """The largest value of a picture with 16 bits, and whether all of them are there; None for other pictures.

    Pillow keeps only the upper 8 bits of coloured pictures.

    Raises:
        Unreadable: The picture cannot be read.
    """
    with opened(data) as file:
        if file.mode.startswith("I;16") or (file.mode == "I" and file.format in LEVELLED):
            return int(np.asarray(file).max()), True
        if file.mode not in ("RGB", "RGBA", "LA") or ";16" not in _raw_mode(file):
            return None
        colours = np.asarray(file)[..., : 1 if file.mode == "LA" else 3]
        return 256 * int(colours.max()), False


def _raw_mode(image: Image.Image) -> str:
    """The mode that the file itself has."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if tiles else ""


def _plain(image: Image.Image, form: Form, where: Where) -> Image.Image:
    """Convert a picture to a mode of 8-bit levels."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        plain = Image.fromarray(_levels(values, form.pixel_bits or 16, where))
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            plain.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return plain
    if image.mode == "I":
        if form.pixel_bits is None:
            raise InputError(f"{where()} holds 32-bit integers, whose range is not known. Give it: --pixel-bits 16.")
        return Image.fromarray(_levels(np.asarray(image), form.pixel_bits, where))
    if image.mode == "F":
        return Image.fromarray(_levels_of_floats(np.asarray(image), form, where))
    if image.mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        assert converted is not None
        return converted
    return image


def _levels(values: np.ndarray, depth: int, where: Where) -> np.ndarray:
    """8-bit levels of integers with a number of bits."""
    if values.size and (int(values.min()) < 0 or int(values.max()) >= 2**depth):
        low, high = int(values.min()), int(values.max())
        raise InputError(
            f"{where()} has values from {low:,} to {high:,}, but {depth} bits hold 0 to {2**depth - 1:,}. Give "
            "another --pixel-bits."
        )
    if depth == 16:
        return (values >> 8).astype(np.uint8)
    return np.rint(values.astype(np.float64) * (255 / (2**depth - 1))).astype(np.uint8)


def _levels_of_floats(values: np.ndarray, form: Form, where: Where) -> np.ndarray:
    """8-bit levels of floats from 0 to 1, or from 0 to the largest integer of a number of bits."""
    high = 1 if form.pixel_bits is None else 2**form.pixel_bits - 1
    if not np.isfinite(values).all():
        raise InputError(f"{where()} has pixels that are not finite (NaN or infinite).")
    if values.size and (values.min() < 0 or values.max() > high):
        raise InputError(
            f"{where()} has float values from {values.min()!s} to {values.max()!s}, not from 0 to {high:,}. Scale "
            "them, or give the number of bits of such values: --pixel-bits 8 for 0 to 255."
        )
    return np.rint(values.astype(np.float64) * (255 / high)).astype(np.uint8)


def _opaque(image: Image.Image, form: Form) -> Image.Image:
    """Put a picture on the background if it is transparent anywhere."""
    if image.mode not in TRANSPARENT and "transparency" not in image.info:
        return image
    if image.mode == "La":  # Pillow converts it to LA only
        image = image.convert("LA")
    colours = image.convert("RGBA")
    if form.background == "none":
        return colours
    values = np.asarray(colours).astype(np.uint32)
    alpha = values[..., 3:]
    over = values[..., :3] * alpha + LEVELS[form.background] * (255 - alpha)
    return Image.fromarray(((over + 127) // 255).astype(np.uint8))


def _upright(image: Image.Image) -> Image.Image:
    """Rotate a picture by the orientation in its metadata. Unreadable metadata are ignored."""
    orientation = 1
    with suppress(Exception):
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def _middle_square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
