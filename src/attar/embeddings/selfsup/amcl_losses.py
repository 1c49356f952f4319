"""The objectives of AMCL (`amcl`), for any training loop: functions of cosines and of a temperature for each pair.

Numbers such as (2.1) are those of the paper's table of objectives. Wang, Koniusz, Gedeon and Zheng, Adaptive Multi-head
Contrastive Learning, ECCV 2024, arXiv:2310.05615.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.precision import at_least_float32
from attar.embeddings.contrast import contrast

Gathered = Literal["softmax", "topk", "max"]
Pairs = Float[Tensor, "head anchor candidate"]
"""A value for every anchor with every candidate, such as a cosine or a temperature."""


def omega(temperatures: Tensor, width: int) -> Tensor:
    """Ω(τ) = (d/2) log τ + 1/τ, so that -s/τ + Ω(τ) is -log N(z₊; z, τ I) up to a constant, s = cos(z, z₊).

    Args:
        temperatures: τ.
        width: d, the size of a projection.
    """
    return width / 2 * temperatures.log() + 1 / temperatures


def best_temperature(cosine: float, width: int, beta: float = 1.0) -> float:
    """Where -s/τ + β Ω(τ) of a positive is lowest: τ = 2 (β - s) / (β d), or zero for s ≥ β, where it has no minimum.

    The term of a negative, s/τ - β Ω(τ), has its maximum there, and no minimum.
    """
    return max(0.0, 2 * (beta - cosine) / (beta * width))


def amcl_simclr(
    z: Float[Tensor, "head view d"], temperatures: Float[Tensor, "head view view"], **gathering: Any
) -> Float[Tensor, ""]:
    """The loss (2.1) of SimCLR, or (2.4) with the positive among the candidates; the sum over heads.

    Args:
        z: L2-normalised projections of both views, one below the other.
        temperatures: Those of every pair.
        gathering: `beta`, `negatives` and the further arguments of `gathered`.
    """
    count = z.shape[1]
    partner = torch.arange(count, device=z.device).roll(count // 2)
    z = at_least_float32(z)
    return gathered(z @ z.mT, temperatures, partner, others(count, z.device), width=z.shape[-1], **gathering)


def amcl_moco(
    query: Float[Tensor, "head sample d"],
    key: Float[Tensor, "head sample d"],
    queue: Float[Tensor, "head place d"],
    temperatures: Float[Tensor, "head sample candidate"],
    **gathering: Any,
) -> Float[Tensor, ""]:
    """The loss (2.1) of MoCo, or (2.4) with the positive among the candidates; the sum over heads.

    Args:
        query: L2-normalised projections.
        key: Those of the other view, by the slow encoder; they have no gradient.
        queue: Earlier keys of each head.
        temperatures: Of each query with its key, in column 0, and with the queue.
        gathering: `beta`, `negatives` and the further arguments of `gathered`.
    """
    query, key, queue = at_least_float32(query), at_least_float32(key.detach()), at_least_float32(queue)
    cosines = torch.cat([(query * key).sum(dim=-1, keepdim=True), query @ queue.mT], dim=-1)
    partner = torch.zeros(query.shape[1], dtype=torch.long, device=query.device)
    return gathered(cosines, temperatures, partner, width=query.shape[-1], **gathering)


def amcl_simsiam(
    cosine: Float[Tensor, "head sample"],
    temperature: Float[Tensor, "head sample"],
    other_cosine: Float[Tensor, "head sample"],
    other_temperature: Float[Tensor, "head sample"],
    *,
    width: int,
    beta: float,
) -> Float[Tensor, ""]:
    """The loss (2.2) of SimSiam: Σ_c -cos/(2 τ) - cos~/(2 τ~) + β Ω(τ) + β Ω(τ~), averaged over samples.

    Args:
        cosine: Of the predictions from the first view with the second view.
        temperature: τ of these pairs.
        other_cosine: Of the predictions from the second view with the first.
        other_temperature: τ~ of these.
        width: d, the size of a projection.
        beta: β.
    """
    ways = ((cosine, temperature), (other_cosine, other_temperature))
    each = torch.stack([-s / (2 * t) + beta * omega(t, width) for s, t in ways])
    return each.sum(dim=(0, 1)).mean()


def amcl_barlow(
    correlations: Float[Tensor, "head d d"],
    temperatures: Float[Tensor, "head d d"],
    redundancy_weight: float = 5e-3,
    *,
    beta: float,
) -> Float[Tensor, ""]:
    """The loss (2.3) of Barlow Twins, with one temperature for each entry of the correlations; the sum over heads.

    Σ_c Σ_l (1 - C_ll/τ_ll)² + λ Σ_{l≠m} C_lm²/τ_lm + β Σ_l Ω(τ_ll) - β Σ_{l≠m} Ω(τ_lm).

    Args:
        correlations: C of each head.
        temperatures: τ of each entry.
        redundancy_weight: λ of what is off the diagonal.
        beta: β, the weight of Ω.
    """
    width = correlations.shape[-1]
    found, temperatures = at_least_float32(correlations), at_least_float32(temperatures)
    itself = temperatures.diagonal(dim1=1, dim2=2)
    same = (1 - found / temperatures).square().diagonal(dim1=1, dim2=2).sum() + beta * omega(itself, width).sum()
    rest = redundancy_weight * off_diagonal(found.square() / temperatures)
    return same + (rest - beta * omega(off_diagonal(temperatures), width)).sum()


def gathered(
    cosines: Pairs,
    temperatures: Pairs,
    positive: Int[Tensor, " anchor"],
    candidates: Bool[Tensor, "anchor candidate"] | None = None,
    *,
    width: int,
    beta: float,
    negatives: Gathered = "softmax",
    hardest: int = 8,
    positive_among: bool | None = None,
    regularise_negatives: bool = False,
    summed: bool = False,
) -> Float[Tensor, ""]:
    """Σ over heads of -s₊/τ₊ + β Ω(τ₊) + what the negatives add, averaged over anchors.

    The negatives add s/τ - β Ω(τ) of the hardest one (`max`, the paper's formula), the mean of that over the κ hardest
    (`topk`), or log Σ exp s/τ over all (`softmax`). The hardest has the largest cosine. In our runs `max` and
    `topk` collapsed towards a few directions, at every β and range, and with fixed temperatures too: where the hardest
    negative is as near as the positive, its term pays as much for drawing all samples together as for keeping them
    apart. Prefer `softmax`, which with β = 0, one head and one temperature is NT-Xent.

    Args:
        cosines: s, of every anchor with every candidate.
        temperatures: τ, likewise.
        positive: The candidate that is each anchor's positive.
        candidates: The positive and the negatives of each anchor; all by default.
        width: d, the size of a projection.
        beta: β.
        negatives: How they are gathered.
        hardest: κ.
        positive_among: Whether the positive is a candidate of softmax or maximum too. Default: of the softmax only.
        regularise_negatives: Whether the softmax has -β times the mean Ω over its candidates.
        summed: Whether -β times the sum of log τ + 1/τ takes the place of -β times the mean Ω of the hardest, as in
            the released code.
    """
    cosines, temperatures = at_least_float32(cosines), at_least_float32(temperatures)
    own = F.one_hot(positive, cosines.shape[-1]).bool()
    allowed = torch.ones_like(own) if candidates is None else candidates
    if not (negatives == "softmax" if positive_among is None else positive_among):
        allowed = allowed & ~own
    logits = cosines / temperatures
    rows = torch.arange(len(positive), device=positive.device)
    attracted = beta * omega(temperatures[:, rows, positive], width).sum()
    if negatives == "softmax":
        found = torch.stack([contrast(one, own, allowed, "sum") for one in logits]).sum() + attracted
        if regularise_negatives:
            share = allowed / allowed.sum(dim=1, keepdim=True)
            found = found - beta * (omega(temperatures, width) * share).sum()
        return found / len(positive)
    hard = _largest(cosines, allowed, 1 if negatives == "max" else hardest)
    count = max(1, hard.shape[-1])
    pushed = omega(temperatures.gather(2, hard), 2 if summed else width).sum() / (1 if summed else count)
    repelled = logits.gather(2, hard).sum() / count - beta * pushed
    return (attracted - logits[:, rows, positive].sum() + repelled) / len(positive)


def others(count: int, device: torch.device) -> Bool[Tensor, "view view"]:
    """Every view but itself."""
    return ~torch.eye(count, dtype=torch.bool, device=device)


def off_diagonal(square: Float[Tensor, "head n n"]) -> Float[Tensor, "head entry"]:
    """All entries but those on the diagonals, row by row. A mask would let a GPU be waited for."""
    heads, count = square.shape[:2]
    return square.flatten(1)[:, 1:].view(heads, count - 1, count + 1)[:, :, :-1].reshape(heads, -1)


def _largest(cosines: Pairs, allowed: Tensor, hardest: int) -> Int[Tensor, "head anchor hard"]:
    """The places of the largest allowed cosines, as many as every anchor has."""
    fewest = int(allowed.sum(dim=1).min())
    return cosines.detach().masked_fill(~allowed, -torch.inf).topk(min(hardest, fewest), dim=-1).indices
