"""Nearest neighbours by cosine, and their weighted vote on the labels of a sample.

The protocol is that of instance discrimination: the k nearest training samples vote with weight exp(similarity / T).
Wu, Xiong, Yu and Lin, Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018,
arXiv:1805.01978.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.embeddings.checks import check_finite

Queries = Float[Tensor, "query width"]
Gallery = Float[Tensor, "sample width"]
Votes = Float[Tensor, "query classes"]
PAIRS = 2**22
"""Similarities that are in memory at once: 17 MB in single precision."""
MANY, USUAL, FEW = 10_000, 200, 20
"""From so many samples on so many neighbours vote, and below them so few."""


def nearest(
    queries: Queries, gallery: Gallery, count: int
) -> tuple[Float[Tensor, "query count"], Int[Tensor, "query count"]]:
    """The most similar samples of a gallery, by cosine: similarities and rows, the most similar first.

    Of equally similar samples those of the lowest rows are taken, whatever the device.

    Args:
        queries: Features.
        gallery: Features to search in; one chunk of queries after another is compared with all of them.
        count: How many to find.

    Raises:
        InputError: The gallery has fewer samples, or a feature is not finite.
    """
    if not 0 < count <= len(gallery):
        raise InputError(f"{count} nearest neighbours are asked for, but there are {len(gallery):,} samples.")
    for features in (queries, gallery):
        check_finite(features)
    there = F.normalize(gallery.detach()).t()
    chunks = F.normalize(queries.detach()).split(max(1, PAIRS // len(gallery)))
    found = [_highest(chunk @ there, count) for chunk in chunks]
    if not found:
        return queries.new_zeros(0, count), torch.zeros(0, count, dtype=torch.long, device=queries.device)
    similarities, rows = zip(*found, strict=True)
    return torch.cat(similarities), torch.cat(rows)


def knn_votes(
    queries: Queries,
    gallery: Gallery,
    labels: Int[Tensor, " sample"] | Bool[Tensor, "sample classes"],
    classes: int,
    *,
    neighbours: int | None = None,
    temperature: float = 0.1,
) -> Votes:
    """The share of the votes that each class gets.

    Args:
        queries: Features of samples to classify.
        gallery: Features of training samples.
        labels: Their classes, or which labels each of them has: it then votes for each, and shares do not add up to 1.
        classes: Number of classes.
        neighbours: Number of neighbours k. Default: `usual_neighbours`.
        temperature: T; the lower, the more the nearest counts.

    Raises:
        InputError: As for `nearest`.
    """
    count = neighbours or usual_neighbours(len(gallery))
    similarities, rows = nearest(queries, gallery, min(count, len(gallery)))
    # Only ratios of weights matter; this way the largest is 1 and none overflows.
    weights = ((similarities - similarities[:, :1]) / temperature).exp()
    weights = weights / weights.sum(dim=1, keepdim=True)
    labels = labels.to(rows.device)
    if labels.ndim == 1:
        return weights.new_zeros(len(rows), classes).scatter_add(1, labels[rows], weights)
    return torch.stack([(weights * column[rows]).sum(dim=1) for column in labels.t()], dim=1)


def usual_neighbours(samples: int) -> int:
    """200 of 10,000 samples or more; 20 of fewer, and never more than there are."""
    return min(USUAL if samples >= MANY else FEW, samples)


def _highest(
    similarities: Float[Tensor, "query sample"], count: int
) -> tuple[Float[Tensor, "query count"], Int[Tensor, "query count"]]:
    """The highest values of each row with their places; of equal ones the first."""
    values, places = similarities.topk(count, dim=1)
    # topk may take any of those that tie at the border. Where more tie than there is room for, all are sorted.
    border = values[:, -1:]
    crowded = ((similarities >= border).sum(dim=1) > count).nonzero().flatten()
    if len(crowded):
        order = similarities[crowded].argsort(dim=1, descending=True, stable=True)[:, :count]
        places[crowded] = order
    places = places.sort(dim=1).values
    order = similarities.gather(1, places).argsort(dim=1, descending=True, stable=True)
    places = places.gather(1, order)
    return similarities.gather(1, places), places
