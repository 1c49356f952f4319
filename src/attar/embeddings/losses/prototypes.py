"""The loss of prototypical networks: cross-entropy of a softmax over minus the distances to the means of classes.

Snell, Swersky and Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017, arXiv:1703.05175.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.precision import at_least_float32, without_autocast
from attar.embeddings.checks import check_embeddings
from attar.embeddings.distances import Distance, distances, prototypes_of
from attar.embeddings.positives import checked_labels

Queries = Float[Tensor, "query d"]
Prototypes = Float[Tensor, "way d"]


def own_rows(labels: Any, queries: Any, prototypes: Any) -> Int[Tensor, " query"]:
    """The row of each query's own prototype.

    Raises:
        InputError: Queries and prototypes do not fit together, or a label is no row of a prototype.
    """
    check_embeddings(queries, "queries")
    check_embeddings(prototypes, "prototypes", queries.shape[1])
    found = checked_labels(labels, len(queries))
    if found.ndim != 1:
        raise InputError(f"labels have shape {tuple(found.shape)}; give the row of each query's prototype.")
    if not len(found):
        raise InputError("there is no query. Give some.")
    if int(found.max()) >= len(prototypes):
        raise InputError(f"a label is {int(found.max())}, but there are {len(prototypes)} prototypes, from 0.")
    return found.long()


def proto_logits(
    queries: Queries, prototypes: Prototypes, *, distance: Distance = "squared", temperature: float = 1.0
) -> Float[Tensor, "query way"]:
    """-d(q, p_c) / T, the logits of a prototypical network.

    Args:
        queries: q.
        prototypes: p_c.
        distance: The square of the Euclidean distance, or the smoothed distance itself.
        temperature: T.
    """
    return -distances(queries, prototypes, distance) / temperature


def protonet_loss(
    queries: Queries,
    labels: Int[Tensor, " query"],
    prototypes: Prototypes,
    *,
    distance: Distance = "squared",
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """The cross-entropy of the logits. Arguments as for `proto_logits`; a label is the row of the own prototype.

    Args:
        queries: q.
        labels: The row of each query's own prototype.
        prototypes: p_c.
        distance: The square of the Euclidean distance, or the smoothed distance itself.
        temperature: T.

    Raises:
        InputError: A label is no row of a prototype.
    """
    labels = own_rows(labels, queries, prototypes)
    return F.cross_entropy(proto_logits(queries, prototypes, distance=distance, temperature=temperature), labels)


def prototypical(
    queries: Float[Tensor, "query d"],
    labels: Int[Tensor, " query"],
    support: Float[Tensor, "support d"],
    support_labels: Int[Tensor, " support"],
    squared: bool = True,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
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
