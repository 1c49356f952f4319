"""Proto-Triplet: a query should be nearer to the mean of its own class than to that of any other, by a margin.

The triplet loss with prototypes for positive and negative. It stops pulling a query once the margin is kept, where the
cross-entropy of a prototypical network goes on. The margin has the unit of the embeddings: set it anew where they are
scaled to length one. On 8×8 digits it does better than a prototypical network with squared distance; on Omniglot one
with unsquared distance leads.
Mendez-Ruiz, Gonzalez-Zapata, Reyes-Amezcua, Flores-Araiza, Lopez-Tiro, Mendez-Vazquez and Ochoa-Ruiz, SuSana Distancia
is all you need, arXiv:2305.09062.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.embeddings.distances import Distance, distances
from attar.embeddings.losses.prototypes import own_rows

Queries = Float[Tensor, "query d"]
Prototypes = Float[Tensor, "way d"]
Labels = Int[Tensor, " query"]
Scalar = Float[Tensor, ""]


def proto_triplet_loss(
    queries: Queries,
    labels: Labels,
    prototypes: Prototypes,
    margin: float = 0.5,
    *,
    distance: Distance = "unsquared",
    soft: bool = False,
) -> Scalar:
    """Mean over queries of max(0, d(q, p_y) - min over c ≠ y of d(q, p_c) + margin).

    Args:
        queries: q.
        labels: y, the row of each query's own prototype.
        prototypes: p_c.
        margin: In units of the distance.
        distance: The smoothed distance of the paper, or its square without smoothing.
        soft: Whether the softplus takes the place of the hinge. With two classes, squared distance and no margin it is
            the cross-entropy of a prototypical network.

    Raises:
        InputError: There is no other prototype, or a label is no row of a prototype.
    """
    if len(prototypes) < 2:
        raise InputError("the Proto-Triplet loss needs two prototypes at least.")
    labels = own_rows(labels, queries, prototypes)
    found = distances(queries, prototypes, distance)
    own = F.one_hot(labels, len(prototypes)).bool()
    nearest = found.masked_fill(own, torch.inf).min(dim=1).values
    gap = found.gather(1, labels[:, None])[:, 0] - nearest + margin
    return (F.softplus(gap) if soft else gap.relu()).mean()


class ProtoTripletLoss(nn.Module):
    """The Proto-Triplet loss for any training loop: `loss(queries, labels, prototypes)`.

    Args:
        margin: In units of the distance.
        distance: The smoothed distance of the paper, or its square without smoothing.
        soft: Whether the softplus takes the place of the hinge.
    """

    def __init__(self, margin: float = 0.5, *, distance: Distance = "unsquared", soft: bool = False) -> None:
        """See `proto_triplet_loss` for the arguments."""
        super().__init__()
        self.margin, self.distance, self.soft = margin, distance, soft

    def forward(self, queries: Queries, labels: Labels, prototypes: Prototypes) -> Scalar:
        """The loss of queries."""
        return proto_triplet_loss(queries, labels, prototypes, self.margin, distance=self.distance, soft=self.soft)
