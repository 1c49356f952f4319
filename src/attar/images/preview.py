"""A picture of a labelled image set: one row per class, with the class name on the left."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MOST_CLASSES, MOST_PER_CLASS = 20, 10
CELL, GAP, MARGIN = 56, 6, 16


def preview(pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> bytes:
    """A PNG of up to 20 classes by 10 images.

    Args:
        pixels: Images as uint8, `[image, height, width, channel]`.
        labels: Class numbers, `[image]`.
        classes: The names of the classes.
    """
    cell = max(CELL, min(pixels.shape[1:3])) if min(pixels.shape[1:3]) <= 128 else 128
    font = ImageFont.load_default(size=15)
    shown = list(range(min(len(classes), MOST_CLASSES)))
    columns = max(min(int((labels == label).sum()), MOST_PER_CLASS) for label in shown)
    label_width = int(max(font.getlength(_short(classes[label])) for label in shown)) + 2 * GAP
    width = 2 * MARGIN + label_width + columns * (cell + GAP) - GAP
    height = 2 * MARGIN + len(shown) * (cell + GAP) - GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for place, label in enumerate(shown):
        top = MARGIN + place * (cell + GAP)
        draw.text((MARGIN, top + cell / 2), _short(classes[label]), "#333333", font, anchor="lm")
        for column, row in enumerate(np.nonzero(labels == label)[0][:columns]):
            sheet.paste(_picture(pixels[row], cell), (MARGIN + label_width + column * (cell + GAP), top))
    sink = io.BytesIO()
    sheet.save(sink, "PNG")
    return sink.getvalue()


def _picture(pixels: np.ndarray, side: int) -> Image.Image:
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).convert("RGB")
    sampling = Image.Resampling.NEAREST if image.width < side else Image.Resampling.LANCZOS
    return image.resize((side, side), sampling)


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"
