"""Prototypical networks: classify each query by the softmax of its negative distances to the means of the classes.

The strongest simple baseline of few-shot learning, and the one to try first. The distance is squared in the paper. The
distance itself, unsquared, is what easyfsl takes; it does better on Omniglot with one support a class, so it is the
default here. Where few classes are there to learn from, as with ten digits, both forget what does not tell these apart,
and the unsquared distance more: take the squared one there, and a temperature below 1. With one support a class this is
a softmax over nearest neighbours.
Snell, Swersky and Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017, arXiv:1703.05175.
"""

from dataclasses import dataclass
from typing import Annotated, Self

from jaxtyping import Float
from torch import Tensor

from attar.core.presets import published
from attar.core.settings import Range
from attar.embeddings.distances import Distance, distances
from attar.embeddings.fewshot.episodes import class_major, episode_prototypes
from attar.embeddings.fewshot.episodic import Episodic
from attar.embeddings.learner import Batch, Learning, Terms
from attar.embeddings.losses.prototypes import Prototypes, Queries, protonet_loss


@dataclass(frozen=True, kw_only=True)
class ProtoNet(Episodic):
    """Classify queries by their distance to the means of classes (Snell et al., NeurIPS 2017, arXiv:1703.05175)."""

    distance: Distance = "unsquared"
    """Distance between what is matched, queries and prototypes: the squared Euclidean distance of the paper, or the
    distance itself."""
    temperature: Annotated[float, Range(0.001)] = 1.0
    """Temperature that softens answers, T: distances are divided by it."""

    name = "protonet"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of one published cell.

        Args:
            data: Such as "mini-imagenet-5shot".
        """
        return published(cls, data)

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The cross-entropy of queries."""
        support, queries = self.embedded(batch, state)
        way, _, query = self.size
        labels = class_major(way, query).to(queries.device)
        loss = protonet_loss(
            queries, labels, episode_prototypes(support, way), distance=self.distance, temperature=self.temperature
        )
        return {"cross": loss}

    def distances(self, queries: Queries, prototypes: Prototypes) -> Float[Tensor, "query way"]:
        """How far queries are from prototypes: the negative logits."""
        return distances(queries, prototypes, self.distance) / self.temperature
