"""Triplets: an anchor should be nearer to a sample of its own class than to one of another class, by a margin.

Schroff, Kalenichenko and Philbin, FaceNet, CVPR 2015, arXiv:1503.03832; hardest ones of a batch: Hermans, Beyer and
Leibe, In Defense of the Triplet Loss for Person Re-Identification, arXiv:1703.07737.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.errors import InputError, unknown
from attar.core.precision import at_least_float32, without_autocast
from attar.embeddings.checks import check_embeddings, checked_number
from attar.embeddings.distances import exact_distances
from attar.embeddings.losses.pairs import check_pairs
from attar.embeddings.positives import checked_labels

Mining = Literal["all", "hard", "semi-hard"]
Scalar = Float[Tensor, ""]
Distances = Float[Tensor, "anchor candidate"]
Mask = Bool[Tensor, "anchor candidate"]


def triplet(
    embeddings: Float[Tensor, "anchor d"],
    labels: Int[Tensor, " anchor"] | None,
    margin: float = 0.05,
    mining: Mining = "all",
    *,
    squared: bool = False,
    normalise: bool = True,
    indices_tuple: Sequence[Tensor] | None = None,
    ref_emb: Float[Tensor, "candidate d"] | None = None,
    ref_labels: Int[Tensor, " candidate"] | None = None,
) -> Scalar:
    """max(0, d(a, p) - d(a, n) + margin), averaged; 0 where there is no such triplet.

    Args:
        embeddings: The anchors a, and by default the positives p and negatives n too.
        labels: The class of each. None, if `indices_tuple` says it all.
        margin: By how much a negative should be farther away.
        mining: "all": the mean over all triplets above zero. "hard": for each anchor the farthest positive and the
            nearest negative, averaged over anchors that have both. "semi-hard": the mean over triplets with
            d(a, p) < d(a, n) < d(a, p) + margin.
        squared: Whether distances are squared.
        normalise: Whether embeddings are first scaled to length one.
        indices_tuple: Triplets (a, p, n) of a miner; the mean is over those above zero.
        ref_emb: Embeddings of positives and negatives, if they are others.
        ref_labels: Their classes.

    Raises:
        InputError: Labels are missing, too many, negative or not whole.
    """
    checked_number("margin", margin)
    if mining not in get_args(Mining):
        raise unknown("mining", str(mining), get_args(Mining))
    check_embeddings(embeddings)
    if ref_emb is not None:
        check_embeddings(ref_emb, "ref_emb", embeddings.shape[1])
    with without_autocast(embeddings):
        mine = at_least_float32(embeddings)
        theirs = mine if ref_emb is None else at_least_float32(ref_emb)
        if normalise:
            mine, theirs = F.normalize(mine), F.normalize(theirs)
        found = exact_distances(mine, theirs, squared)
        if indices_tuple is not None:
            check_pairs(indices_tuple, len(mine), len(theirs), parts=(3,))
            a, p, n = indices_tuple
            terms = F.relu(found[a, p] - found[a, n] + margin)
            return terms.sum() / (terms > 0).sum().clamp(min=1)
        if labels is None or (ref_emb is None) != (ref_labels is None):
            raise InputError("labels are missing: give labels, and ref_labels with ref_emb; or indices_tuple.")
        one = checked_labels(labels, len(mine))
        two = one if ref_labels is None else checked_labels(ref_labels, len(theirs))
        same = one[:, None] == two[None]
        positive = same.clone().fill_diagonal_(False) if ref_emb is None else same
        return (
            _hardest(found, positive, ~same, margin)
            if mining == "hard"
            else _mean(found, positive, ~same, margin, semi_hard=mining == "semi-hard")
        )


def _hardest(found: Distances, positive: Mask, negative: Mask, margin: float) -> Scalar:
    if not found.numel():
        return found.sum()
    far = found.masked_fill(~positive, -torch.inf).amax(dim=1)
    near = found.masked_fill(~negative, torch.inf).amin(dim=1)
    both = positive.any(dim=1) & negative.any(dim=1)
    terms = F.relu(torch.where(both, far, 0) - torch.where(both, near, 0) + margin)
    return torch.where(both, terms, 0).sum() / both.sum().clamp(min=1)


def _mean(found: Distances, positive: Mask, negative: Mask, margin: float, *, semi_hard: bool) -> Scalar:
    """The mean over triplets, in the memory of pairs.

    Of an anchor's sorted negatives, those below d(a, p) + margin give terms above zero. Their number and their sum are
    all that a positive needs.
    """
    order = found.masked_fill(~negative, torch.inf).sort(dim=1).values
    sums = F.pad(torch.where(order.isinf(), 0, order).cumsum(dim=1), (1, 0))
    with torch.no_grad():
        last = torch.searchsorted(order, found + margin)
        first = torch.searchsorted(order, found, right=True) if semi_hard else torch.zeros_like(last)
        count = torch.where(positive, last - first, 0)
    total = count * (found + margin) - torch.where(positive, sums.gather(1, last) - sums.gather(1, first), 0)
    return total.sum() / count.sum().clamp(min=1)
