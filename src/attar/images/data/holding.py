"""Pictures become pixels: their shape and channels are found, bad ones are counted, and all are decoded or kept."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from attar.core.errors import InputError
from attar.images.data.decoding import DARK, Unreadable, decode, is_grey, most
from attar.images.data.form import Form
from attar.images.data.pixels import BadPictures, Encoded, InMemory, Pixels, Shape, decode_all, portions
from attar.images.data.streaming import Pictures, in_threads

LOOKED_AT = 256
"""Number of evenly spaced pictures that are looked at before all the others."""


@dataclass(frozen=True)
class Wanted:
    """What images must be like, so that they fit the others of the set."""

    grey: bool = False
    """Whether they have one channel."""
    shape: Shape | None = None
    """Their shape. Default: that of the first one."""
    deep: bool = False
    """Whether others show that values with 16 bits use all of them."""


@dataclass(frozen=True)
class Held:
    """Pixels that were read, and the pictures that were left out."""

    pixels: Pixels
    kept: Int[Tensor, " image"] | None = None
    """Rows of the pictures that could be read; None stands for all."""
    bad: tuple[str, ...] = ()
    """What is wrong with the others, in a sentence each."""
    deep: bool = False
    """Whether values with 16 bits use all of them."""


def hold(pictures: Pictures, form: Form, wanted: Wanted) -> Held:
    """Decode pictures into memory, or leave them encoded if they would exceed the budget.

    Args:
        pictures: The pictures, of one size unless `form` gives a size to scale to.
        form: The budget, the size, and how pictures are decoded.
        wanted: What the images must be like.

    Raises:
        InputError: A picture cannot be read (`BadPictures`), has another size, or has values of an unknown range.
    """
    deep = wanted.deep or _is_deep(pictures, form)
    first, found = _first(pictures, form, grey=wanted.grey)
    shape = found if wanted.shape is None else (found[0], *wanted.shape[1:])
    if shape[1:] != found[1:]:
        raise InputError(
            f"training images are {shape[2]}×{shape[1]}, but {pictures.where(first)} is {found[2]}×{found[1]}. "
            f"Scale them to one size with --size {min(shape[1:])}."
        )
    rows = torch.arange(len(pictures))
    if form.holds(len(rows), shape):
        images, bad = decode_all(pictures, rows.tolist(), shape, form, first=first)
        kept = _kept(bad, len(rows), form)
        return Held(InMemory(images if kept is None else images[kept]), kept, tuple(bad.values()), deep)
    bad = _looked_through(pictures, rows.tolist(), shape, form) if form.skip_bad else {}
    kept = _kept(bad, len(rows), form)
    return Held(Encoded(pictures, rows if kept is None else kept, shape, form), kept, tuple(bad.values()), deep)


def _kept(bad: dict[int, str], total: int, form: Form) -> Int[Tensor, " image"] | None:
    if not bad:
        return None
    if not form.skip_bad or len(bad) == total:
        raise BadPictures(list(bad.values()), total, others=len(bad) < total)
    keep = torch.ones(total, dtype=torch.bool)
    keep[list(bad)] = False
    return torch.nonzero(keep).flatten()


def _looked_through(pictures: Pictures, rows: list[int], shape: Shape, form: Form) -> dict[int, str]:
    """What is wrong with pictures that stay encoded, by row. Each is decoded once."""
    bad: dict[int, str] = {}
    for part in portions(torch.tensor(rows), shape):
        bad |= decode_all(pictures, part.tolist(), shape, form)[1]
    return bad


def _first(pictures: Pictures, form: Form, *, grey: bool) -> tuple[int, Shape]:
    """The first picture that can be read, and its shape.

    Raises:
        BadPictures: None can be read.
    """
    bad = []
    for row in range(len(pictures)):
        try:
            (data,) = pictures.read([row])
            height, width, channels = decode(data, form, grey=grey, where=partial(pictures.where, row)).shape
        except Unreadable as error:
            bad.append(f"{pictures.where(row)} {error}")
        else:
            return row, (channels, height, width)
    raise BadPictures(bad, len(pictures), others=False)


def shape_of(pictures: Pictures, form: Form) -> Shape:
    """The shape of the first picture that can be read. It has one channel only if all pictures are grey.

    Raises:
        BadPictures: None can be read.
    """
    return _first(pictures, form, grey=all_grey(pictures))[1]


def all_grey(pictures: Pictures) -> bool:
    """Whether no picture has colours, by the headers. Some evenly spaced ones come first, then all."""

    def coloured(rows: list[int]) -> bool:
        for data in pictures.read(rows):
            with suppress(Unreadable):  # reported, with its row, when it is decoded
                if not is_grey(data):
                    return True
        return False

    if coloured(_spaced(len(pictures))):
        return False
    return not any(in_threads(coloured, list(range(len(pictures)))))


def _spaced(count: int) -> list[int]:
    """Some evenly spaced rows."""
    return sorted({number * count // LOOKED_AT for number in range(LOOKED_AT)})


def _is_deep(pictures: Pictures, form: Form) -> bool:
    """Whether there are pictures with 16 bits, which use them.

    Raises:
        InputError: The largest value of some evenly spaced ones is small, so that another depth is meant.
    """
    rows, found = _spaced(len(pictures)), {}
    for row, data in zip(rows, pictures.read(rows), strict=True):
        with suppress(Unreadable):
            found[row] = most(data)
    deep = {row: value for row, value in found.items() if value is not None}
    highest = max((value for value, _ in deep.values()), default=0)
    if not deep or highest > DARK:
        return bool(deep)
    where = pictures.where(next(iter(deep)))
    if not all(whole for _, whole in deep.values()):
        raise InputError(
            f"{where} has 16 bits, of which only the lower ones are used. Pillow reads the upper 8 of coloured "
            "pictures. Save it with 8 bits."
        )
    if form.pixel_bits is None:
        bits = next(bits for bits in (8, 10, 12, 14) if highest < 2**bits)
        raise InputError(
            f"{where} has 16 bits, but no such picture has a value above {highest:,}. Give the number of bits: "
            f"--pixel-bits {bits}, or --pixel-bits 16 if the pictures are so dark."
        )
    return True
