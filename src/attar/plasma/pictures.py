"""The preview of a run: maps of log T, log n and losses side by side, drawn without matplotlib."""

import io
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from attar.plasma.maps import Map, lengths, maps, moment

SIDE, LEAST = 320, 40
"""Pixels of the longer side of a map, and of each side at least."""
GAP, BAR, LINE = 14, 10, 20
"""Pixels between maps, of a colour bar, and of a line of text."""
SIZE = 14
GREY, TEXT = (225, 225, 225), "#333333"
INFERNO = (
    (0, 0, 4),
    (40, 11, 84),
    (101, 21, 110),
    (159, 42, 99),
    (212, 72, 66),
    (245, 125, 21),
    (250, 193, 39),
    (252, 255, 164),
)
"""A few colours of a map of equal steps in lightness, from dark to bright."""


def preview(run: Any, snapshot: int = -1) -> bytes:
    """Log T, log n and losses of a snapshot, as PNG; y rises upwards, and one length is as long along x as along y."""
    from PIL import Image, ImageDraw, ImageFont

    grid, found = run.grid, maps(run, snapshot)
    wide, high = sides(grid.columns * grid.dx, grid.rows * grid.dy)
    cell = max(wide, 150)
    sheet = Image.new("RGB", (3 * cell + 4 * GAP, high + BAR + 3 * LINE + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=SIZE)
    scale, unit = lengths(run)
    size = f"{grid.columns * grid.dx * scale:.3g} x {grid.rows * grid.dy * scale:.3g} {unit}"
    told = f"{moment(run, snapshot)}     {size}, {grid.columns} x {grid.rows} cells"
    draw.text((GAP, LINE / 2 + 4), told, TEXT, font, anchor="lm")
    for place, one in enumerate(found):
        left, top = GAP + place * (cell + GAP), 2 * LINE + 4
        draw.text((left, top - LINE / 2 - 2), one.title, TEXT, font, anchor="lm")
        sheet.paste(_drawn(one, wide, high), (left, top))
        if one.values is None:
            draw.text((left + wide / 2, top + high / 2), "none", TEXT, font, anchor="mm")
            continue
        under, (least, most) = top + high + 4, one.ends
        ramp = np.linspace(0.0, 1.0, wide)[None].repeat(BAR, axis=0)
        sheet.paste(Image.fromarray(coloured(ramp, 0.0, 1.0)), (left, under))
        draw.text((left, under + BAR + LINE / 2), f"{least:.2f}", TEXT, font, anchor="lm")
        draw.text((left + wide, under + BAR + LINE / 2), f"{most:.2f}", TEXT, font, anchor="rm")
    sink = io.BytesIO()
    sheet.save(sink, format="PNG")
    return sink.getvalue()


def sides(width: float, height: float) -> tuple[int, int]:
    """Pixels of a map of a domain, true to its form unless that would leave a line."""
    scale = SIDE / max(width, height)
    return max(LEAST, round(width * scale)), max(LEAST, round(height * scale))


def coloured(values: Float[np.ndarray, "row column"], low: float, high: float) -> UInt8[np.ndarray, "row column 3"]:
    """Values between two ends in colours."""
    share = (values - low) / (high - low if high > low else 1.0)
    stops, colours = np.linspace(0, 1, len(INFERNO)), np.array(INFERNO, dtype=float)
    return np.stack([np.interp(share, stops, colours[:, part]) for part in range(3)], axis=-1).round().astype(np.uint8)


def _drawn(one: Map, wide: int, high: int) -> Any:
    """A map in its size; the first row below."""
    from PIL import Image

    if one.values is None:
        return Image.new("RGB", (wide, high), GREY)
    image = Image.fromarray(np.flipud(coloured(one.values, *one.ends)))
    finer = wide > image.width and high > image.height
    return image.resize((wide, high), Image.Resampling.NEAREST if finer else Image.Resampling.BOX)
