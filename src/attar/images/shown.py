"""The part of the report about a condensed image set: a strip of pictures for every class, and their development."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attar.core import artefact as core
from attar.core.errors import InputError
from attar.images.card import per_class

Condensed = Any
"""A `CondensedImages`. It is not imported here, because its file imports this one."""
GAP = 1
"""Number of pixels between pictures in a strip."""
SNAPSHOT_CLASSES, SNAPSHOT_IMAGES = 10, 5


def shown(small: Condensed, images: int) -> core.Shown:
    """The facts and pictures of a set.

    Args:
        small: The set.
        images: The largest number of pictures per class.
    """
    count, full = len(small.labels), small.origin.full_bytes
    return core.Shown(
        size=f"{count:,} images, {per_class(small)}",
        count=count,
        bytes=small.bytes,
        share=100 * small.bytes / full if full else None,
        facts=dict(_facts(small)),
        pictures=tuple(strips(small, images)),
        snapshots=tuple(snapshots(small)),
    )


def _facts(small: Condensed) -> Iterator[tuple[str, str]]:
    channels, height, width = small.shape
    colours = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    yield "made from", f"{small.origin.full_images:,} images, {small.origin.full_bytes:,} bytes"
    yield "pictures", f"{width} × {height}, {colours}, {'learned' if small.images.is_floating_point() else 'real'}"
    yield "labels", "class numbers" if small.labels.ndim == 1 else "a probability for every class"
    if small.teacher is not None:
        yield "teacher", small.teacher.note(len(small.labels)).replace("`", "")
    if small.soft is not None:
        yield "stored labels", small.soft.note().replace("`", "")
    if small.lr is not None:
        yield "learned step size", f"{small.lr:g}"


def strips(small: Condensed, images: int) -> Iterator[core.Picture]:
    """A strip of pictures for every class."""
    labels, side = small.hard_labels.numpy(), small.shape[1]
    for number, name in enumerate(small.classes):
        rows = np.nonzero(labels == number)[0]
        if len(rows):
            drawn = side_by_side(small.pixels[rows[:images]])
            yield core.Picture(name, drawn, min(len(rows), images), len(rows), side)


def snapshots(small: Condensed) -> Iterator[core.Picture]:
    """Pictures of the set at earlier steps: up to five images of up to ten classes."""
    if small.folder is None:
        return
    for step, place in sorted(_steps(small.folder / "run" / "snapshots")):
        try:
            then = type(small).load(place)
        except InputError:
            continue
        rows = [Image.open(io.BytesIO(strip.png)) for strip in strips(then, SNAPSHOT_IMAGES)][:SNAPSHOT_CLASSES]
        width, height = max(row.width for row in rows), rows[0].height + GAP
        sheet = Image.new("RGBA", (width, height * len(rows) - GAP))
        for number, row in enumerate(rows):
            sheet.paste(row, (0, number * height))
        yield core.Picture(f"step {step:,}", png(np.asarray(sheet)), side=2 * then.shape[1])


def _steps(folder: Path) -> Iterator[tuple[int, Path]]:
    for place in folder.glob("step-*"):
        step = place.name.removeprefix("step-")
        if step.isdecimal():
            yield int(step), place


def side_by_side(pixels: np.ndarray) -> bytes:
    """Images `[image, height, width, channel]` side by side as one PNG."""
    count, height, width, channels = pixels.shape
    sheet = np.zeros((height, count * (width + GAP) - GAP, 4), dtype=np.uint8)
    for place, image in enumerate(pixels):
        left = place * (width + GAP)
        sheet[:, left : left + width, :3] = image if channels == 3 else np.repeat(image, 3, axis=2)
        sheet[:, left : left + width, 3] = 255
    return png(sheet)


def png(pixels: np.ndarray) -> bytes:
    """An image `[height, width, channel]` as PNG."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", optimize=True)
    return sink.getvalue()
