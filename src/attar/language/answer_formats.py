"""A teacher's distribution of the next token in few bytes: its K most probable tokens, and the mass of all others.

Of each token log p is kept, as float16, or as a number from 0 to 255 between the least and the largest (int8). The
logarithm of the rest's mass is kept in float32. What is read is normalised again. Then each log-probability is off by
at most |log p| / 1024 (float16, by the largest |log p| of the position), or by the largest less the least one, divided
by 255 (int8). There one below -100 counts as -100: tokens that a teacher masks would leave no levels to the others.
Where K is the size of the vocabulary there is no rest, and no token number is kept.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.language.losses import RULED_OUT, Places, tokens_at_once

Format = Literal["float16", "int8"]
Parts = dict[str, Tensor]
"""Tensors by name, a row for each position."""
Logs = Float[Tensor, "place kept"]

TWO_BYTES = 2**16
"""Tokens below this are numbered in two bytes, larger ones in three."""
LEVELS = 255
LEAST = -65_000.0
"""The least logarithm that float16 holds, and more than any softmax tells apart."""
LEAST_LEVEL = -100.0
"""The least logarithm of int8."""


def kinds_of(top: int, words: int, kind: Format) -> dict[str, tuple[torch.dtype, int]]:
    """The parts of a position: the type and the number of values of each.

    Args:
        top: Number K of tokens that are kept.
        words: Size of the vocabulary.
        kind: The format.
    """
    kept = min(top, words)
    found = {"values": (torch.uint8 if kind == "int8" else torch.float16, kept)}
    if kind == "int8":
        found["affine"] = (torch.float32, 2)
    if kept < words:
        found |= {"rest": (torch.float32, 1), "tokens": (torch.int16, kept)}
        if words > TWO_BYTES:
            found["high"] = (torch.uint8, kept)
    return found


def bytes_per_token(top: int, words: int, kind: Format) -> int:
    """The size of a position in bytes."""
    return sum(dtype.itemsize * count for dtype, count in kinds_of(top, words, kind).values())


@torch.no_grad()
def encoded(
    logits: Float[Tensor, "sequence token word"], places: Places, *, words: int, top: int, kind: Format
) -> tuple[Parts, Float[Tensor, "place 2"]]:
    """The parts of some places of a teacher's logits; and of each place the kept mass and log p of its token.

    Args:
        logits: Of a batch.
        places: Which of them.
        words: Size of the vocabulary.
        top: Number K of tokens that are kept.
        kind: The format.

    Raises:
        InputError: Logits that are not numbers, or tokens that are ruled out by a logit of minus infinity.
    """
    flat, size = logits.reshape(-1, logits.shape[-1]), tokens_at_once(logits.device, words)
    several: list[Parts] = []
    told = []
    for rows, targets in zip(places.rows.split(size), places.targets.split(size), strict=True):
        one = flat[rows, :words].float()
        _check(one)
        log_p = torch.log_softmax(one, dim=1)
        parts, kept = _encoded(log_p, top, kind)
        several.append({name: part.cpu() for name, part in parts.items()})
        likely = log_p.gather(1, targets.unsqueeze(1))
        told.append(torch.cat([kept.unsqueeze(1), likely], dim=1).cpu())
    return joined(several), torch.cat(told)


def _check(logits: Tensor) -> None:
    low, high = logits.aminmax()
    if not bool(high.isfinite()) or bool(low.isnan()):
        raise InputError("the teacher's logits hold NaN or infinity. Check the teacher or its precision.")
    if bool(low < RULED_OUT):
        raise InputError(
            "the teacher rules out tokens by a logit of minus infinity, which stored answers do not tell. Give a "
            "teacher that has a number for every token, or distil with the teacher itself (--teacher)."
        )


def _encoded(log_p: Logs, top: int, kind: Format) -> tuple[Parts, Tensor]:
    kept, parts = log_p, {}
    mass = torch.ones_like(log_p[:, 0])
    if top < log_p.shape[1]:
        kept, tokens = log_p.topk(top, dim=1)
        others = log_p.scatter(1, tokens, -torch.inf)
        low = tokens & (TWO_BYTES - 1)
        parts["tokens"] = torch.where(low >= TWO_BYTES // 2, low - TWO_BYTES, low).to(torch.int16)
        if log_p.shape[1] > TWO_BYTES:
            parts["high"] = (tokens >> 16).to(torch.uint8)
        parts["rest"] = others.logsumexp(dim=1, keepdim=True)
        mass = kept.exp().sum(dim=1).clamp_(max=1)
    if kind == "float16":
        return {**parts, "values": kept.clamp(min=LEAST).half()}, mass
    kept = kept.clamp(min=LEAST_LEVEL)
    low, high = kept.aminmax(dim=1, keepdim=True)
    scale = ((high - low) / LEVELS).clamp_(min=1e-12)
    numbers = ((kept - low) / scale).round_().clamp_(0, LEVELS).to(torch.uint8)
    return {**parts, "values": numbers, "affine": torch.cat([low, scale], dim=1)}, mass


def decoded(
    parts: Mapping[str, Tensor],
) -> tuple[Logs, Int[Tensor, "place kept"] | None, Float[Tensor, "place 1"] | None]:
    """The logarithms, the tokens that they belong to (None: all, in order), and log of the rest's mass."""
    values = parts["values"].float()
    if "affine" in parts:
        low, scale = parts["affine"].split(1, dim=1)
        values = values.mul_(scale).add_(low)
    if "tokens" not in parts:
        return torch.log_softmax(values, dim=1), None, None
    tokens = parts["tokens"].long() & (TWO_BYTES - 1)
    if "high" in parts:
        tokens |= parts["high"].long() << 16
    whole = torch.log_softmax(torch.cat([values, parts["rest"]], dim=1), dim=1)
    return whole[:, :-1], tokens, whole[:, -1:]


def joined(several: list[Parts]) -> Parts:
    """Parts of several batches one after the other."""
    return {name: torch.cat([parts[name] for parts in several]) for name in several[0]} if several else {}
