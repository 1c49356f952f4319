"""How CPO and CPS order the columns of a map, and which of their pointers they need not store.

Amer, Salamah, Sajedi and Yang, arXiv:2104.08314; for any stride and padding by us.
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
"""Which types keep three pointers, not Ow + 1: "none", "npo" (of columns in one window, as the code), or "all"."""
Pointers = Int[Tensor, "type window_and_one"]


@dataclass(frozen=True)
class Columns:
    """The columns of a padded map in storage order: by type t, leftmost window s, and place.

    Window s is columns [s·Sw, s·Sw + Kw). Column j lies in windows s_lo = max(0, ⌈(j - Kw + 1)/Sw⌉) to
    s_hi = min(Ow - 1, ⌊j/Sw⌋); its type is t = s_hi - s_lo. Columns in no window, and those of the padding, are left
    out.
    """

    order: Int[Tensor, " column"]
    """Columns of the map without padding."""
    local: Int[Tensor, " column"]
    """j - s_lo·Sw, the kernel column that meets it in its leftmost window."""
    slot: Int[Tensor, " column"]
    """t·Ow + s_lo."""
    bounds: Int[Tensor, "type window_and_one"]
    """Where in `order` the columns of type t and leftmost window s begin and end."""

    @property
    def arrays(self) -> tuple[Any, Any, Any]:
        """Order, local and bounds as the compiled loops take them."""
        return self.order.numpy(), self.local.numpy(), self.bounds.numpy()

    @property
    def types(self) -> int:
        """The number of types, n = ⌈Kw/Sw⌉."""
        return len(self.bounds)

    @property
    def windows(self) -> int:
        """Windows side by side, Ow."""
        return self.bounds.shape[1] - 1


@lru_cache(maxsize=256)
def columns_of(width: int, geometry: Geometry) -> Columns:
    """The columns of maps so many pixels wide (without padding)."""
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

    With stride 1 it is (n - 1)(Ow + 1) + min(Ow + 1, 3) for `npo` and n > 1, and at most 3(n - 1) + Ow + 1 for `all`.
    """
    columns = columns_of(width, geometry)
    return sum(3 if cut else columns.windows + 1 for cut in trimmed_types(columns, trim))


def trimmed_types(columns: Columns, trim: Trim) -> list[bool]:
    """For each type whether three pointers tell all: only windows 0 and Ow - 1 - t have entries of type t.

    With stride 1 that holds for every type but the last; with larger strides it has to be looked up.
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
    """The pointers of one channel as they are stored: of a trimmed type begin, end of window 0, and end."""
    pieces = (row[[0, 1, -1]] if cut else row for row, cut in zip(pointers, trimmed_types(columns, trim), strict=True))
    return torch.cat(list(pieces))


def restore_pointers(stored: Int[Tensor, " word"], columns: Columns, trim: Trim) -> Pointers:
    """The inverse of `trim_pointers`."""
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
