"""The triplet loss on batches of several classes with several samples each, with three ways of choosing triplets.

An anchor should be nearer to a sample of its class than to one of another, by a margin. A baseline for prototypes, and
of use where classes are many and small. Batch-hard (Hermans et al.) may collapse at first with a large step size;
semi-hard (FaceNet) is gentler; batch-all averages over the triplets that still cost something.
Schroff, Kalenichenko and Philbin, FaceNet, CVPR 2015, arXiv:1503.03832. Hermans, Beyer and Leibe, In Defense of the
Triplet Loss for Person Re-Identification, arXiv:1703.07737.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attar.core.presets import published
from attar.core.settings import Range
from attar.embeddings.fewshot.distances import in_full, smooth_distances

Mining = Literal["batch-all", "batch-hard", "semi-hard"]
Embeddings = Float[Tensor, "sample d"]
Labels = Int[Tensor, " sample"]
Scalar = Float[Tensor, ""]


def triplet_loss(
    embeddings: Embeddings,
    labels: Labels,
    margin: float = 0.5,
    *,
    mining: Mining = "batch-hard",
    soft: bool = False,
    unit_length: bool = False,
) -> Scalar:
    """max(0, d(a, p) - d(a, n) + margin) over triplets of a batch, with distances that are smoothed and not squared.

    Args:
        embeddings: The samples.
        labels: Their classes.
        margin: In units of the distance.
        mining: Which triplets. `batch-all`: the mean over all that cost something. `batch-hard`: the farthest positive
            and the nearest negative of each anchor. `semi-hard`: those with d(a, p) < d(a, n) < d(a, p) + margin.
        soft: Whether the softplus takes the place of the hinge. `batch-all` then averages over all triplets.
        unit_length: Whether embeddings are scaled to length one first.

    Returns:
        The mean; 0 where there is no such triplet.
    """
    embeddings = in_full(embeddings)
    found = smooth_distances(*[F.normalize(embeddings) if unit_length else embeddings] * 2)
    same = labels[:, None] == labels
    positive, negative = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same
    if mining == "batch-hard":
        return _hard(found, positive, negative, margin, soft=soft)
    anchors, partners = positive.nonzero(as_tuple=True)
    gap = found[anchors, partners][:, None] - found[anchors] + margin
    chosen = negative[anchors]
    if mining == "semi-hard":
        chosen = chosen & (gap < margin) & (gap > 0)
    elif not soft:
        chosen = chosen & (gap > 0)
    return _mean(_cost(gap, soft=soft), chosen)


def _hard(
    found: Float[Tensor, "sample sample"],
    positive: Bool[Tensor, "sample sample"],
    negative: Bool[Tensor, "sample sample"],
    margin: float,
    *,
    soft: bool,
) -> Scalar:
    """The farthest positive and the nearest negative of each anchor that has both."""
    farthest = found.masked_fill(~positive, -torch.inf).max(dim=1).values
    nearest = found.masked_fill(~negative, torch.inf).min(dim=1).values
    both = positive.any(dim=1) & negative.any(dim=1)
    gap = (farthest - nearest).masked_fill(~both, 0.0) + margin
    return _mean(_cost(gap, soft=soft), both)


def _cost(gap: Float[Tensor, "*triplet"], *, soft: bool) -> Float[Tensor, "*triplet"]:
    return F.softplus(gap) if soft else gap.relu()


def _mean(costs: Float[Tensor, "*triplet"], chosen: Bool[Tensor, "*triplet"]) -> Scalar:
    """The mean over those that are chosen; 0 if there are none."""
    return (costs * chosen).sum() / chosen.sum().clamp_min(1)


class TripletLoss(nn.Module):
    """The triplet loss for any training loop: `loss(embeddings, labels)`."""

    def __init__(
        self,
        margin: float = 0.5,
        *,
        mining: Mining = "batch-hard",
        soft: bool = False,
        unit_length: bool = False,
    ) -> None:
        """See `triplet_loss` for the arguments."""
        super().__init__()
        self.margin, self.mining, self.soft, self.unit_length = margin, mining, soft, unit_length

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of a batch."""
        return triplet_loss(
            embeddings, labels, self.margin, mining=self.mining, soft=self.soft, unit_length=self.unit_length
        )
