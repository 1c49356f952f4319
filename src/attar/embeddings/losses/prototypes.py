"""The loss of prototypical networks: cross-entropy of a softmax over minus the distances to the means of classes.

Snell, Swersky and Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017, arXiv:1703.05175.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.precision import at_least_float32, without_autocast
from attar.embeddings.distances import Distance, distances, prototypes_of
from attar.embeddings.positives import checked_labels

Queries = Float[Tensor, "query d"]
Prototypes = Float[Tensor, "way d"]


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
    """The cross-entropy of the logits. Arguments as for `proto_logits`; a label is the row of the own prototype."""
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
    wanted, given = checked_labels(labels, len(queries)), checked_labels(support_labels, len(support))
    classes, rows = given.unique(return_inverse=True)
    places = torch.searchsorted(classes, wanted).clamp(max=len(classes) - 1)
    lost = wanted[classes[places] != wanted]
    if len(lost):
        raise InputError(f"class {int(lost[0])} of a query has no support sample.")
    with without_autocast(queries):
        means = prototypes_of(at_least_float32(support), rows, len(classes))
        distance: Distance = "squared" if squared else "unsquared"
        return protonet_loss(at_least_float32(queries), places, means, distance=distance, temperature=temperature)
