"""Prototypical networks: classify each query by the softmax of its negative distances to the means of the classes.

The strongest simple baseline of few-shot learning, and the one to try first. The distance is squared in the paper. The
distance itself, unsquared, is what easyfsl takes; it does better on Omniglot, so it is the default here. With one
support a class this is a softmax over nearest neighbours.
Snell, Swersky and Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017, arXiv:1703.05175.
"""

from dataclasses import dataclass
from typing import Annotated, Self

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.presets import published
from attar.embeddings.fewshot.distances import Distance, distances

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
