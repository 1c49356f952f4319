"""The order of a map's columns in CPO and CPS, and the pointers that they need not store.

Amer, Salamah, Sajedi and Yang, arXiv:2104.08314. The extension to any stride and padding is ours.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from attar.convolution.geometry import Geometry
from attar.core.errors import unknown

Trim = str
"""Types that keep three pointers instead of Ow + 1: "none", "npo" (columns in one window, as in the code), or "all"."""
Pointers = Int[Tensor, "type window_and_one"]


@dataclass(frozen=True)
class Columns:
    """The columns of a padded map in storage order: by type t, leftmost window s, and place.

    Window s covers columns [s·Sw, s·Sw + Kw). Column j lies in windows s_lo = max(0, ⌈(j - Kw + 1)/Sw⌉) to
    s_hi = min(Ow - 1, ⌊j/Sw⌋). Its type is t = s_hi - s_lo. Columns of the padding and columns in no window are not
    stored.
    """

    order: Int[Tensor, " column"]
    """Numbers of the columns in the map without padding, in storage order."""
    local: Int[Tensor, " column"]
    """j - s_lo·Sw for each column: the kernel column that meets it in its leftmost window."""
    slot: Int[Tensor, " column"]
    """t·Ow + s_lo for each column: the number of its type and leftmost window."""
    bounds: Int[Tensor, "type window_and_one"]
    """Places in `order` where the columns of type t and leftmost window s begin and end."""

    @property
    def arrays(self) -> tuple[Any, Any, Any]:
        """`order`, `local` and `bounds` as arrays for the compiled loops."""
        return self.order.numpy(), self.local.numpy(), self.bounds.numpy()

    @property
    def types(self) -> int:
        """The number of types, n = ⌈Kw/Sw⌉."""
        return len(self.bounds)

    @property
    def windows(self) -> int:
        """The number of windows side by side, Ow."""
        return self.bounds.shape[1] - 1


@lru_cache(maxsize=256)
def columns_of(width: int, geometry: Geometry) -> Columns:
    """The columns of maps of a width, which is given in pixels without padding."""
    kernel, step, padding = geometry.kernel[1], geometry.stride[1], geometry.padding[1]
    windows = (width + 2 * padding - kernel) // step + 1
    types = math.ceil(kernel / step)
    found = []
    for j in range(padding, padding + width):
        low, high = max(0, -((kernel - 1 - j) // step)), min(windows - 1, j // step)
        if low <= high:
            found.append((high - low, low, j))
    found.sort()
    type_of, low_of, column = torch.tensor(found, dtype=torch.long).view(-1, 3).T
    slot = type_of * windows + low_of
    counts = torch.bincount(slot, minlength=types * windows).view(types, windows)
    ends = counts.flatten().cumsum(0).view(types, windows)
    bounds = torch.cat([(ends - counts)[:, :1], ends], dim=1)
    return Columns(column - padding, column - low_of * step, slot, bounds)


def pointer_words(width: int, geometry: Geometry, trim: Trim) -> int:
    """The number P of pointers of one channel.

    With stride 1 and n > 1, P is (n - 1)(Ow + 1) + min(Ow + 1, 3) for `npo`. For `all` it is at most
    3(n - 1) + Ow + 1.
    """
    columns = columns_of(width, geometry)
    return sum(3 if cut else columns.windows + 1 for cut in trimmed_types(columns, trim))


def trimmed_types(columns: Columns, trim: Trim) -> list[bool]:
    """Whether three pointers suffice for each type, because only windows 0 and Ow - 1 - t have entries of type t.

    With stride 1 this holds for every type but the last. With larger strides it has to be checked.
    """
    if trim not in ("none", "npo", "all"):
        raise unknown("trim", trim, ("none", "npo", "all"))
    return [
        _trims(trim, kind, columns) and columns.windows > 2 and _at_the_ends(columns.bounds[kind], kind)
        for kind in range(columns.types)
    ]


def _trims(trim: Trim, kind: int, columns: Columns) -> bool:
    return kind < columns.types - 1 and (trim == "all" or (trim == "npo" and kind == 0))


def _at_the_ends(bounds: Int[Tensor, " window_and_one"], kind: int) -> bool:
    populated = bounds.diff().nonzero().flatten().tolist()
    return set(populated) <= {0, len(bounds) - 2 - kind}


def trim_pointers(pointers: Pointers, columns: Columns, trim: Trim) -> Int[Tensor, " word"]:
    """The pointers of one channel in stored form. A trimmed type keeps its begin, the end of window 0, and its end."""
    pieces = (row[[0, 1, -1]] if cut else row for row, cut in zip(pointers, trimmed_types(columns, trim), strict=True))
    return torch.cat(list(pieces))


def restore_pointers(stored: Int[Tensor, " word"], columns: Columns, trim: Trim) -> Pointers:
    """Restore the pointers of one channel: the inverse of `trim_pointers`."""
    rows, at, slots = [], 0, columns.windows + 1
    for kind, cut in enumerate(trimmed_types(columns, trim)):
        if cut:
            begin, middle, end = stored[at : at + 3]
            row = middle.repeat(slots)
            row[0] = begin
            row[max(columns.windows - kind, 1) :] = end
        else:
            row = stored[at : at + slots]
        rows.append(row)
        at += 3 if cut else slots
    return torch.stack(rows)
