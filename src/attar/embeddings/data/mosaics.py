"""Mosaics: small images with one label each become larger ones with several, by laying up to four of them in a square.

A mosaic has 2×2 cells, of which one to four are filled, every number as often. The class of each filled cell is drawn
with frequencies that fall geometrically from `MOST` for the first class to `LEAST` for the last, before they are made
to sum to one; then one of its images is drawn, evenly. Empty cells are black. A mosaic has every label of its cells,
and a caption that names them and their places. Training mosaics consist of training images, test mosaics of test
images. All draws depend on the seed alone, so the same mosaics are made anywhere.

The bundled set `mosaics` is made of scikit-learn's 8×8 digits: 1,024 training and 1,500 test mosaics of 16×16 pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.seeds import uniform
from attar.embeddings.sources import Features, Part
from attar.images.data.pixels import InMemory, Pixels

MOST, LEAST = 0.25, 0.03
"""Frequency of the first and of the last class among filled cells, before they are made to sum to one."""
CELLS = 4
TRAIN, TEST = 1024, 1500
"""Numbers of training and test mosaics of the bundled set."""
EMPTY = -1
"""Class of an empty cell."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Drawn:
    """What mosaics consist of: cells in the order top left, top right, bottom left, bottom right."""

    classes: Int[Tensor, "mosaic 4"]
    """The class of each cell, or `EMPTY`."""
    images: Int[Tensor, "mosaic 4"]
    """The row of its image."""

    def labels(self, classes: int) -> Bool[Tensor, "mosaic classes"]:
        """Which classes each mosaic has."""
        return (self.classes[:, :, None] == torch.arange(classes)).any(dim=1)


def frequencies(classes: int) -> list[float]:
    """The frequencies of classes among filled cells: geometric, from the first class down to the last."""
    falling = [MOST * (LEAST / MOST) ** (number / max(classes - 1, 1)) for number in range(classes)]
    return [one / sum(falling) for one in falling]


def drawn(labels: Int[Tensor, " image"], classes: int, count: int, seed: int, purpose: str) -> Drawn:
    """Draw what mosaics consist of.

    Args:
        labels: The class of each image that may be used.
        classes: The number of classes.
        count: The number of mosaics.
        seed: Seed of the draw.
        purpose: The part, so that those of several parts are independent.
    """
    sizes = labels.bincount(minlength=classes)
    shares = torch.tensor(frequencies(classes), dtype=torch.float64) * (sizes > 0)
    starts, by_class = sizes.cumsum(0) - sizes, labels.argsort(stable=True)
    draws = uniform(seed, f"mosaics, {purpose}", count, 1 + 3 * CELLS).double()
    filled = 1 + (draws[:, :1] * CELLS).long()
    order, which, image = draws[:, 1:].split(CELLS, dim=1)
    is_filled = order.argsort(dim=1, stable=True).argsort(dim=1) < filled
    chosen = torch.searchsorted((shares / shares.sum()).cumsum(0), which.contiguous(), right=True)
    chosen = chosen.clamp_max(int(sizes.nonzero().max()))
    rows = by_class[starts[chosen] + (image * sizes[chosen]).long().clamp_max(sizes[chosen] - 1)]
    return Drawn(torch.where(is_filled, chosen, EMPTY), rows)


def laid(pixels: Pixels, cells: Drawn) -> InMemory:
    """The pixels of mosaics."""
    channels, height, width = pixels.shape
    images = pixels[cells.images.flatten()].view(-1, 2, 2, channels, height, width)
    images = images * (cells.classes != EMPTY).view(-1, 2, 2, 1, 1, 1).to(images.dtype)
    return InMemory(images.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, 2 * height, 2 * width))


def mosaic_part(part: Part, classes: Sequence[str], count: int, seed: int, purpose: str) -> Part:
    """So many mosaics of labelled images, with their labels and captions.

    Raises:
        InputError: There are no images, or they do not have one label each.
    """
    pixels, labels = part.samples, part.labels
    if isinstance(pixels, Features) or labels is None or labels.ndim != 1:
        raise InputError("mosaics are made of images with one label each. Leave out --mosaics.")
    if not len(labels):
        raise InputError(f"there are no {purpose} images to make mosaics of.")
    cells = drawn(labels, len(classes), count, seed, purpose)
    words = [word_for(name) for name in classes]
    captions = tuple(caption([words[c] if c != EMPTY else "" for c in four]) for four in cells.classes.tolist())
    return Part(laid(pixels, cells), cells.labels(len(classes)), captions)


# ------------------------------------------------------------------------------------------------------------- captions


def caption(cells: Sequence[str]) -> str:
    """A caption of a mosaic: "a three and a seven above an eight on the left".

    Args:
        cells: Nouns with their articles, in the order top left, top right, bottom left, bottom right; empty ones of
            empty cells.
    """
    top, bottom = _row(cells[:2]), _row(cells[2:])
    if top and bottom:
        return f"{top} above {bottom}"
    return f"{top} at the top" if top else f"{bottom} at the bottom"


def _row(cells: Sequence[str]) -> str:
    left, right = cells
    if left and right:
        return f"{left} and {right}"
    return f"{left} on the left" if left else f"{right} on the right" if right else ""


def word_for(name: str) -> str:
    """The name of a class as a noun with its article; digits are written out.

    Example: "3" becomes "a three", "airplane" becomes "an airplane".
    """
    noun = DIGITS[int(name)] if name in map(str, range(10)) else name.partition(",")[0].replace("_", " ").strip()
    vowel = noun[:1].lower() in tuple("aeiou") and not noun.lower().startswith(("one", "uni", "use", "eu"))
    return f"{'an' if vowel else 'a'} {noun}"
