"""Triplets of batches with several samples of several classes: an anchor should be nearer to its class by a margin.

A strong baseline for prototypes, and of use where classes are many and small. Three ways of choosing triplets:
batch-all averages over all that still cost something and is the safe choice, batch-hard may collapse at first with a
large step size, and semi-hard lies between.
Schroff, Kalenichenko and Philbin, FaceNet, CVPR 2015, arXiv:1503.03832. Hermans, Beyer and Leibe, In Defense of the
Triplet Loss for Person Re-Identification, arXiv:1703.07737.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.core.precision import at_least_float32
from attar.core.settings import Range
from attar.embeddings.distances import smooth_distances
from attar.embeddings.fewshot.episodes import class_major
from attar.embeddings.fewshot.episodic import ByClass, classes_with
from attar.embeddings.learner import Batch, Learning, Terms
from attar.embeddings.losses.triplets import Mining, triplet
from attar.embeddings.sources import Rows, Source

USUAL_CLASSES = 16
"""Classes of a batch, where there are as many."""
MINING: dict[str, Mining] = {"batch-all": "all", "batch-hard": "hard", "semi-hard": "semi-hard"}


@dataclass(frozen=True, kw_only=True)
class Triplet(ByClass):
    """Keep samples nearer to their class than to others (Schroff et al., CVPR 2015, arXiv:1503.03832)."""

    classes_per_batch: Annotated[int, Range(2)] | None = None
    """Classes of a batch, P. Default: 16, or all if there are fewer."""
    samples_per_class: Annotated[int, Range(2)] = 8
    """Samples of each class in a batch, K."""
    triplet_margin: Annotated[float, Range(0)] = 0.5
    """Margin of the triplets, in the unit of the embeddings."""
    mining: Literal["batch-all", "batch-hard", "semi-hard"] = "batch-all"
    """Which triplets of a batch: all that cost something, the hardest of each anchor, or the semi-hard ones, whose
    negative is farther than the positive by less than the margin."""
    unit_length: bool = False
    """Whether embeddings are scaled to length one before they are compared."""

    name = "triplet"

    @property
    def size(self) -> tuple[int, int, int]:
        """Classes of a batch, and samples of each."""
        return self.classes_per_batch or USUAL_CLASSES, self.samples_per_class, 0

    @property
    def watched_size(self) -> tuple[int, int]:
        """Half of the samples of a class are support when held-out classes are scored."""
        return max(1, self.samples_per_class // 2), max(1, self.samples_per_class - self.samples_per_class // 2)

    def fitted(self, source: Source, learn: Rows) -> Self:
        """The settings with the number of classes of a batch."""
        if self.classes_per_batch is not None:
            return self
        return dataclasses.replace(
            self, classes_per_batch=classes_with(self.samples_per_class, source, learn, USUAL_CLASSES)
        )

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The loss of the triplets."""
        labels = class_major(*self.size[:2]).to(batch.views[0].device)
        found = state.encoder(batch.views[0])
        how: dict[str, Any] = {"mining": MINING[self.mining], "normalise": self.unit_length}
        return {"triplet": triplet(found, labels, self.triplet_margin, **how)}

    def distances(
        self, queries: Float[Tensor, "sample d"], prototypes: Float[Tensor, "way d"]
    ) -> Float[Tensor, "sample way"]:
        """How far queries are from prototypes."""
        if self.unit_length:
            queries, prototypes = F.normalize(at_least_float32(queries)), F.normalize(at_least_float32(prototypes))
        return smooth_distances(queries, prototypes)
