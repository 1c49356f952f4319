"""Pictures of scenes: rows of views as one PNG, and a path around the scene as an animated PNG."""

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from attar.core import pictures as core
from attar.images.preview import preview
from attar.samplers.sources import pixels_of
from attar.scenes.card import TITLES
from attar.scenes.sources import Pictures

ACROSS = 10
MOMENT = 120
"""Milliseconds of a view in the animation."""
LARGE = 192
"""Pixels of the side to which smaller views are enlarged in the animation."""


def channels_last(pictures: Pictures) -> Tensor:
    """Pictures between -1 and 1 as 8-bit pixels, channels last."""
    return pixels_of(pictures).permute(0, 2, 3, 1)


def rows(named: Mapping[str, Pictures]) -> bytes:
    """A PNG with a row of pictures for each name."""
    shown = {name: _square(channels_last(pictures[:ACROSS])) for name, pictures in named.items()}
    labels = torch.cat([torch.full((len(pictures),), row) for row, pictures in enumerate(shown.values())])
    return preview(torch.cat(list(shown.values())).numpy(), labels.numpy(), tuple(shown))


def sheet(views: Pictures) -> bytes:
    """A PNG of views from a path, in rows."""
    spread = views[torch.linspace(0, len(views) - 1, min(len(views), 8)).round().long()]
    half = (len(spread) + 1) // 2
    return rows({"orbit": spread[:half], "": spread[half:]} if len(spread) > half else {"orbit": spread})


def animated(views: Pictures) -> bytes:
    """The views one after another, as an animated PNG, which browsers show as they show any PNG."""
    frames = [_enlarged(Image.fromarray(one)) for one in channels_last(views).numpy()]
    sink = io.BytesIO()
    frames[0].save(sink, "PNG", save_all=True, append_images=frames[1:], duration=MOMENT, loop=0)
    return sink.getvalue()


def keep(artefacts: Sequence[Any], found: Any) -> None:
    """Write the pictures of an evaluation beside artefacts that lie in folders of one's own.

    Args:
        artefacts: Those that may be written to.
        found: A `Measurement`.
    """
    for measured, png in found.drawn:
        made = next((one for one in artefacts if one.folder is not None and one.folder == measured.folder), None)
        if made is not None and os.access(made.folder, os.W_OK):
            core.keep(made.folder, {"held-out": png}, TITLES)


def _square(pixels: Tensor) -> Tensor:
    """The central squares."""
    height, width = pixels.shape[1:3]
    side, top, left = min(height, width), abs(min(width - height, 0)) // 2, abs(min(height - width, 0)) // 2
    return pixels[:, top : top + side, left : left + side]


def _enlarged(image: Image.Image) -> Image.Image:
    side = min(image.size)
    if side >= LARGE:
        return image
    times = -(-LARGE // side)
    return image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)
