"""Formats of logits in few bytes: integers with a scale for each row, only the largest logits, or only the class.

Stored labels are larger than their images: with 50 images of each of a thousand classes, 300 epochs of float16 logits
are forty times as large. Bytes per row with C classes: float32 4C, float16 2C, int8 C + 4, int4 ⌈C/2⌉ + 4, top-k 4k,
hard 2.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import Diverged

Logits = Float[Tensor, "row classes"]
Format = Literal["float32", "float16", "int8", "int4", "top-k", "hard"]
Tail = Literal["renorm", "uniform", "min"]
Parts = dict[str, Tensor]
"""The stored tensors, by name."""

MOST_CLASSES = 65_535
"""Largest number of classes that two bytes can represent."""
NEVER = -1e6
"""Logit with probability zero at any temperature below a few thousand. It is finite, so its product with zero is 0."""


def bytes_per_row(kind: Format, classes: int, top: int) -> int:
    """The number of bytes of a label."""
    sizes = {
        "float32": 4 * classes,
        "float16": 2 * classes,
        "int8": classes + 4,
        "int4": (classes + 1) // 2 + 4,
        "top-k": 4 * top,
        "hard": 2,
    }
    return sizes[kind]


def encode(logits: Logits, kind: Format, *, top: int = 10) -> Parts:
    """Encode logits in a format.

    An integer n of a row stands for offset + scale · n. Offset and scale of the row are float16, rounded so that no
    logit lies outside. The error of a logit is at most half the scale, which is about (max - min) / 255 or / 15. For
    top-k, logarithms of probabilities are stored, so that the probability of all other classes is known.

    Raises:
        Diverged: Logits are not finite, or too large for float16.
    """
    logits = logits.detach().float().cpu()
    if not logits.isfinite().all() or (kind not in ("float32", "hard") and float(logits.abs().max()) > 65_000):
        raise Diverged.of("the teacher's logits are not finite or too large for float16; its training has diverged")
    if kind == "float32":
        return {"logits": logits}
    if kind == "float16":
        return {"logits": logits.half()}
    if kind == "hard":
        return {"places": _two_bytes(logits.argmax(dim=1, keepdim=True))}
    if kind == "top-k":
        values, places = logits.log_softmax(dim=1).topk(top, dim=1)
        return {"values": values.clamp_min(-65_000).half(), "places": _two_bytes(places)}
    return _affine(logits, 255 if kind == "int8" else 15)


def decode(parts: Parts, kind: Format, classes: int, *, tail: Tail = "renorm") -> Logits:
    """Decode logits, exact up to rounding; for top-k also up to a constant, which no softmax depends on.

    Args:
        parts: The result of `encode`, or some rows of it.
        kind: The format.
        classes: The number of classes.
        tail: The probability of classes outside the top k: none; an equal share of the remaining probability at
            temperature one; or the smallest one of the top k.
    """
    if kind in ("float32", "float16"):
        return parts["logits"].float()
    if kind == "hard":
        return _placed(torch.zeros(len(parts["places"]), 1), parts["places"], classes, NEVER)
    if kind == "top-k":
        values = parts["values"].float()
        return _placed(values, parts["places"], classes, _rest(values, classes, tail))
    numbers = parts["numbers"] if kind == "int8" else _unpacked(parts["numbers"], classes)
    offset, scale = parts["affine"].float().split(1, dim=1)
    return offset + scale * numbers.float()


def _affine(logits: Logits, largest: int) -> Parts:
    """Rows as integers from zero to `largest`, with offset and scale."""
    values = logits.numpy()
    offset = _half(values.min(axis=1, keepdims=True), up=False)
    span = values.max(axis=1, keepdims=True) - offset.astype(np.float32)
    scale = _half(np.maximum(span / largest, 2.0**-24), up=True)
    numbers = np.rint((values - offset.astype(np.float32)) / scale.astype(np.float32)).clip(0, largest)
    whole = torch.from_numpy(numbers.astype(np.uint8))
    affine = torch.from_numpy(np.concatenate([offset, scale], axis=1))
    return {"numbers": whole if largest == 255 else _packed(whole), "affine": affine}


def _half(values: np.ndarray, *, up: bool) -> np.ndarray:
    """Values rounded up, or down, to float16."""
    rounded = values.astype(np.float16)
    wrong = rounded < values if up else rounded > values
    return np.where(wrong, np.nextafter(rounded, np.float16(np.inf if up else -np.inf)), rounded)


def _packed(numbers: Tensor) -> Tensor:
    """Pack two numbers below 16 into a byte, the first into the lower half."""
    even = torch.nn.functional.pad(numbers, (0, numbers.shape[1] % 2))
    return even[:, ::2] | (even[:, 1::2] << 4)


def _unpacked(pairs: Tensor, classes: int) -> Tensor:
    return torch.stack([pairs & 15, pairs >> 4], dim=2).flatten(1)[:, :classes]


def _two_bytes(places: Tensor) -> Tensor:
    """Numbers below 65,536 as int16. Those above 32,767 become negative, because older files have no unsigned type."""
    return torch.where(places > 32_767, places - 65_536, places).to(torch.int16)


def _placed(values: Float[Tensor, "row k"], places: Tensor, classes: int, rest: Tensor | float) -> Logits:
    """Rows with the values in their places and `rest` elsewhere."""
    logits = torch.zeros(len(values), classes) + rest
    return logits.scatter_(1, places.long() & 65_535, values)


def _rest(values: Float[Tensor, "row k"], classes: int, tail: Tail) -> Tensor | float:
    """The logit of a class that is not stored."""
    if tail == "renorm" or values.shape[1] == classes:
        return NEVER
    if tail == "min":
        return values.min(dim=1, keepdim=True).values
    left = (1 - values.exp().sum(dim=1, keepdim=True)).clamp_min(1e-12)
    return (left / (classes - values.shape[1])).log()
