"""Losses of distances: triplets with a margin, and prototypes.

Triplets: Schroff, Kalenichenko and Philbin, FaceNet, CVPR 2015, arXiv:1503.03832; hardest ones of a batch: Hermans,
Beyer and Leibe, In Defense of the Triplet Loss for Person Re-Identification, arXiv:1703.07737. Prototypes: Snell,
Swersky and Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017, arXiv:1703.05175.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.errors import InputError, unknown
from attar.core.precision import at_least_float32, without_autocast
from attar.embeddings.contrast import check_embeddings, checked_number
from attar.embeddings.fewshot.distances import Distance, prototypes_of
from attar.embeddings.fewshot.protonet import protonet_loss
from attar.embeddings.positives import checked_labels

Mining = Literal["all", "hard", "semi-hard"]
WHOLE = (torch.int64, torch.int32)
Scalar = Float[Tensor, ""]
Distances = Float[Tensor, "anchor candidate"]
Mask = Bool[Tensor, "anchor candidate"]


def distances(
    first: Float[Tensor, "anchor d"], second: Float[Tensor, "candidate d"], squared: bool = False
) -> Distances:
    """Euclidean distances, exact for embeddings far from the origin too. At distance zero the gradient is zero."""
    found = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
    return found.square() if squared else found


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
        found = distances(mine, theirs, squared)
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


def prototypical(
    queries: Float[Tensor, "query d"],
    labels: Int[Tensor, " query"],
    support: Float[Tensor, "support d"],
    support_labels: Int[Tensor, " support"],
    squared: bool = True,
    temperature: float = 1.0,
) -> Scalar:
    """Cross-entropy of a softmax over minus the distances to the classes' prototypes.

    The paper squares distances. A popular library does not, which does better on Omniglot. Labels may be any whole
    numbers from 0, and samples may come in any order.

    Args:
        queries: Samples to be classified.
        labels: Their classes.
        support: Samples that the prototypes are means of.
        support_labels: Their classes.
        squared: Whether distances are squared.
        temperature: What they are divided by.

    Raises:
        InputError: A query's class has no support sample, or labels are too many, negative or not whole.
    """
    check_embeddings(queries, "queries")
    check_embeddings(support, "support samples", queries.shape[1])
    wanted, given = checked_labels(labels, len(queries)), checked_labels(support_labels, len(support))
    if not len(wanted) or not len(given):
        raise InputError("there is no query, or no support sample. Give some of both.")
    classes, rows = given.unique(return_inverse=True)
    places = torch.searchsorted(classes, wanted).clamp(max=len(classes) - 1)
    lost = wanted[classes[places] != wanted]
    if len(lost):
        raise InputError(f"class {int(lost[0])} of a query has no support sample.")
    with without_autocast(queries):
        means = prototypes_of(at_least_float32(support), rows, len(classes))
        distance: Distance = "squared" if squared else "unsquared"
        return protonet_loss(at_least_float32(queries), places, means, distance=distance, temperature=temperature)
