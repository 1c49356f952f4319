"""Pairs and triplets that a miner gives, as in pytorch-metric-learning."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attar.core.errors import InputError

Pairs = Sequence[Tensor]
"""Numbers of anchors and positives, anchors and negatives, (a, p, a, n); or of triplets, (a, p, n)."""
WHOLE = (torch.int64, torch.int32)


def matrices_of(given: Pairs, anchors: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positives and candidates as matrices, from pairs (a, p, a, n) or triplets (a, p, n).

    Raises:
        InputError: As `check_pairs`.
    """
    check_pairs(given, anchors, columns, parts=(3, 4))
    a, p, other_a, n = (given[0], given[1], given[0], given[2]) if len(given) == 3 else given
    positives = torch.zeros(anchors, columns, dtype=torch.bool, device=device)
    candidates = positives.clone()
    for matrix, one, two in ((positives, a, p), (candidates, other_a, n)):
        matrix[one, two] = True
    return positives, candidates | positives


def check_pairs(given: Any, anchors: int, columns: int, parts: Sequence[int]) -> None:
    """Check the numbers that a miner gives: pairs (a, p, a, n) or triplets (a, p, n).

    Args:
        given: What it gives.
        anchors: How many anchors there are.
        columns: How many samples they are compared with.
        parts: How many lists there may be.

    Raises:
        InputError: There are others, they are no whole numbers, of different lengths, or beyond the embeddings.
    """
    wanted = " or ".join({3: "(a, p, n)", 4: "(a, p, a, n)"}[count] for count in sorted(parts, reverse=True))
    if not isinstance(given, (tuple, list)) or not all(isinstance(one, Tensor) for one in given):
        raise InputError(f"indices_tuple holds something else than tensors; give {wanted}.")
    if len(given) not in parts:
        raise InputError(f"indices_tuple has {len(given)} parts; give {wanted}.")
    if not all(one.ndim == 1 and one.dtype in WHOLE for one in given):
        raise InputError(f"indices_tuple holds something else than rows of whole numbers; give {wanted}.")
    a, *others = given
    together = [(a, one) for one in others] if len(given) == 3 else [(a, given[1]), given[2:]]
    for pair in together:
        if len(pair[0]) != len(pair[1]):
            raise InputError(f"indices_tuple has lists of {len(pair[0])} and {len(pair[1])} numbers.")
        for one, count in zip(pair, (anchors, columns), strict=True):
            if len(one) and int(one.min()) < 0:
                raise InputError(f"indices_tuple has {int(one.min())}; embeddings are counted from 0.")
            if len(one) and int(one.max()) >= count:
                raise InputError(f"indices_tuple counts up to {int(one.max())}, beyond the embeddings.")
