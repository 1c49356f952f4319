"""The triplet loss on batches of several classes with several samples each, with three ways of choosing triplets.

An anchor should be nearer to a sample of its class than to one of another, by a margin. A baseline for prototypes, and
of use where classes are many and small. Batch-hard (Hermans et al.) may collapse at first with a large step size;
semi-hard (FaceNet) is gentler; batch-all averages over the triplets that still cost something.
Schroff, Kalenichenko and Philbin, FaceNet, CVPR 2015, arXiv:1503.03832. Hermans, Beyer and Leibe, In Defense of the
Triplet Loss for Person Re-Identification, arXiv:1703.07737.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attar.core.settings import Range
from attar.embeddings.fewshot.distances import in_full, smooth_distances
from attar.embeddings.fewshot.episodic import ByClass, class_major, classes_with
from attar.embeddings.learner import Batch, Learning, Terms
from attar.embeddings.sources import Rows, Source

USUAL_CLASSES = 16
"""Classes of a batch, where there are as many."""
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


@dataclass(frozen=True, kw_only=True)
class Triplet(ByClass):
    """Keep samples nearer to their class than to others (Schroff et al., CVPR 2015, arXiv:1503.03832)."""

    batch_classes: Annotated[int, Range(2)] | None = None
    """Classes of a batch, P. Default: 16, or all if there are fewer."""
    class_samples: Annotated[int, Range(2)] = 8
    """Samples of each class in a batch, K."""
    triplet_margin: Annotated[float, Range(0)] = 0.5
    """Margin of the triplets, in the unit of the embeddings."""
    mining: Mining = "batch-hard"
    """Which triplets of a batch: all that cost something, the hardest of each anchor, or the semi-hard ones, whose
    negative is farther than the positive by less than the margin."""
    soft: bool = False
    """Whether the softplus takes the place of the hinge, so that the pull never ends."""
    unit_length: bool = False
    """Whether embeddings are scaled to length one before they are compared."""

    name = "triplet"

    @property
    def size(self) -> tuple[int, int, int]:
        """Classes of a batch, and samples of each."""
        return self.batch_classes or USUAL_CLASSES, self.class_samples, 0

    @property
    def watched_size(self) -> tuple[int, int]:
        """Half of the samples of a class are support when held-out classes are scored."""
        return max(1, self.class_samples // 2), max(1, self.class_samples - self.class_samples // 2)

    def fitted(self, source: Source, learn: Rows) -> Self:
        """The settings with the number of classes of a batch."""
        if self.batch_classes is not None:
            return self
        return dataclasses.replace(self, batch_classes=classes_with(self.class_samples, source, learn, USUAL_CLASSES))

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The loss of the triplets."""
        labels = class_major(*self.size[:2]).to(batch.views[0].device)
        how = {"mining": self.mining, "soft": self.soft, "unit_length": self.unit_length}
        loss = triplet_loss(state.encoder(batch.views[0]), labels, self.triplet_margin, **how)  # type: ignore[arg-type]
        return {"triplet": loss}

    def distances(self, queries: Embeddings, prototypes: Float[Tensor, "way d"]) -> Float[Tensor, "sample way"]:
        """How far queries are from prototypes."""
        if self.unit_length:
            queries, prototypes = F.normalize(in_full(queries)), F.normalize(in_full(prototypes))
        return smooth_distances(queries, prototypes)
