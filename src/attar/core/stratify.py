"""Drawing a share of samples so that it has as much of each class as the whole.

With one label a sample, the share is drawn from each class. With several labels that cannot be done class by class:
the rarest class goes first, and each of its samples goes to the part that still lacks most of that class. Samples drawn
at random leave rare classes without a single test sample far more often.
Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.seeds import derived_seed, permutation, uniform
from attar.core.selection import rows_by_class, shuffled

Labels = Int[Tensor, " sample"] | Bool[Tensor, "sample classes"]
Mask = Bool[Tensor, " sample"]


def apart(labels: Labels | None, count: int, share: float, seed: int, *, purpose: str = "held out") -> Mask:
    """Which samples are set apart: a share of them, with as much of each class as the rest has.

    With one label a sample, at least one of each class is left.

    Args:
        labels: The class of each sample, which classes each sample has, or None.
        count: The number of samples.
        share: The share, between 0 and 1.
        seed: Seed of the draw.
        purpose: What is drawn, so that several draws with one seed are independent.
    """
    if labels is None:
        return _first(permutation(seed, purpose, count), round(share * count))
    if labels.ndim == 1:
        return _by_class(labels, lambda size: min(round(share * size), size - 1), seed, purpose)
    return iterative(labels, share, seed, purpose)


def split(labels: Labels | None, count: int, seed: int) -> Mask:
    """Which samples are test samples: a fifth, and at least one of every class that has two samples."""
    if labels is None or labels.ndim == 2:
        return apart(labels, count, 0.2, seed, purpose="split")
    return _by_class(labels, lambda size: max(size // 5, int(size > 1)), seed, "split")


def kept(labels: Labels | None, count: int, wanted: int, seed: int) -> Mask:
    """Which samples are kept: exactly so many, in proportion to the classes."""
    if wanted >= count:
        return torch.ones(count, dtype=torch.bool)
    order = permutation(seed, "limit", count)
    if labels is None:
        return _first(order, wanted)
    if labels.ndim == 1:
        return _in_proportion(labels, order, wanted)
    mask = iterative(labels, wanted / count, seed, "limit")
    for chosen, more in ((mask, int(mask.sum()) - wanted), (~mask, wanted - int(mask.sum()))):
        rows = order[chosen[order]][: max(more, 0)]
        mask[rows] = ~mask[rows]
    return mask


def _first(order: Int[Tensor, " sample"], wanted: int) -> Mask:
    mask = torch.zeros(len(order), dtype=torch.bool)
    mask[order[:wanted]] = True
    return mask


def _by_class(labels: Int[Tensor, " sample"], number: Callable[[int], int], seed: int, purpose: str) -> Mask:
    """Samples of each class by itself, in as great a number as a function of its size says."""
    generator = torch.Generator().manual_seed(derived_seed(seed, purpose))
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for rows in rows_by_class(labels, labels.unique().tolist()):
        mask[shuffled(rows, generator)[: number(len(rows))]] = True
    return mask


def _in_proportion(labels: Int[Tensor, " sample"], order: Int[Tensor, " sample"], wanted: int) -> Mask:
    """So many samples in all, from each class in proportion to its size, by largest remainders."""
    sizes = labels.bincount()
    counts = sizes * wanted // len(labels)
    remainders = sizes * wanted % len(labels)
    counts[remainders.argsort(descending=True, stable=True)[: wanted - int(counts.sum())]] += 1
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label, number in enumerate(counts.tolist()):
        mask[order[labels[order] == label][:number]] = True
    return mask


def iterative(labels: Bool[Tensor, "sample classes"], share: float, seed: int, purpose: str) -> Mask:
    """Iterative stratification into two parts: which samples are in the first, which has about the given share.

    In each round the class with the fewest samples left is distributed. A sample goes to the part that lacks most of
    that class; if both lack as many, to the one that lacks most samples; and if that is equal too, at random.
    """
    count = len(labels)
    order = permutation(seed, f"{purpose}, order", count)
    coins = (uniform(seed, f"{purpose}, ties", count) < 0.5).tolist()
    several = labels[order].to(torch.int64)
    shares = torch.tensor([share, 1 - share], dtype=torch.float64)
    lacking = shares[:, None] * several.sum(dim=0)  # of each class, in each part
    room = (shares * count).tolist()
    left, open_ = several.sum(dim=0), torch.ones(count, dtype=torch.bool)
    chosen = torch.zeros(count, dtype=torch.bool)

    def put(row: int, lacks: Float[Tensor, " part"] | None) -> None:
        needs = [(0.0 if lacks is None else float(lacks[part]), room[part]) for part in (0, 1)]
        part = int(coins[row]) if needs[0] == needs[1] else int(needs[1] > needs[0])
        chosen[row] = part == 0
        room[part] -= 1
        lacking[part] -= several[row]

    while bool((left > 0).any()):
        rarest = int(torch.where(left > 0, left, count + 1).argmin())
        rows = (open_ & several[:, rarest].bool()).nonzero().flatten()
        for row in rows.tolist():
            put(row, lacking[:, rarest])
        open_[rows] = False
        left = left - several[rows].sum(dim=0)
    for row in open_.nonzero().flatten().tolist():  # samples without any label
        put(row, None)
    mask = torch.zeros(count, dtype=torch.bool)
    mask[order] = chosen
    return mask
