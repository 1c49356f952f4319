"""SupCon: samples that share labels should be nearer to one another than to the rest of the batch.

With one label for each sample, positives are the samples of its class. With several, they are those whose labels
overlap enough, or all that overlap, weighed by how far. Then the encoder is frozen, and a linear classifier is trained
on its features. Worth trying where features shall serve further tasks; for the labels alone, training end to end
(`attar train multilabel`) is the rival to beat.
Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu and Krishnan, Supervised Contrastive Learning, NeurIPS 2020,
arXiv:2004.11362. That paper has one label for each sample; overlaps of several are a common extension.

The authors' code averages over all anchors, those without a positive too, and multiplies the loss by τ / 0.07. Here the
mean is over anchors with positives, and there is no such factor; where every anchor has one, a step size times τ / 0.07
does the same.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Self

import torch
from torch import nn

from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.settings import Range, Role
from attar.embeddings.heads import Projector
from attar.embeddings.learner import About, Batch, Learner, Learning, Terms, repeated
from attar.embeddings.linear import Linear
from attar.embeddings.losses.supervised import sup_con
from attar.embeddings.multilabel.shared import views_with_all_labels
from attar.embeddings.positives import Score
from attar.embeddings.samplers import ClassBatches
from attar.embeddings.sources import Rows, Source

ENOUGH = 0.5


@dataclass(frozen=True, kw_only=True)
class SupCon(Learner):
    """Pull samples that share labels together, away from the others (Khosla et al., NeurIPS 2020, arXiv:2004.11362)."""

    contrast_temperature: Annotated[float, Range(0.001)] = 0.1
    """Temperature τ of the contrast."""
    positives: Score = "jaccard"
    """Score of how far labels of two samples overlap: shared labels over those of either (jaccard), of the sample with
    fewer (overlap), over the arithmetic (dice) or geometric mean (cosine); or 1 for equal labels only."""
    threshold: Annotated[float, Range(0, 1)] | None = None
    """Threshold of that score, from which samples are positives. The other view of a sample always is. Default: 0.5,
    or 0 with weights."""
    weighted: bool = False
    """Whether positives weigh as much as their score."""
    inside: bool = False
    """Whether the mean over positives stands inside the logarithm, as in the weaker form of the paper."""
    classes_per_batch: Annotated[int, Range(0)] = 0
    """Classes of a batch, P, which then has P times K samples. 0: a batch is drawn from all samples alike."""
    samples_per_class: Annotated[int, Range(2)] = 8
    """Samples of each class in a batch, K."""
    projector: Projector = field(default_factory=Projector)
    linear: Annotated[Linear, Role()] = field(default_factory=lambda: Linear(epochs=100))
    """A linear classifier that is trained at the end, on features of the frozen encoder."""

    name = "supcon"
    needs = "labels"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published cell.

        Args:
            data: cifar10 or cifar100 (the authors' code).

        Raises:
            InputError: Another cell.
        """
        return published(cls, data)

    def resolve(self, source: Source, runtime: Runtime) -> Self:
        """The settings for these data. Of several labels a crop can lose one, so such images have no crops by default.

        Raises:
            InputError: The data have no labels, or fewer classes than a batch shall have.
        """
        self.check(source)
        threshold = (0.0 if self.weighted else ENOUGH) if self.threshold is None else self.threshold
        found = dataclasses.replace(self, threshold=threshold)
        if source.labelled == "several":
            found = dataclasses.replace(found, view=views_with_all_labels(self.view, source))
        if self.classes_per_batch:
            learn, _ = source.held_out(self.held_out)
            found._batches(source, learn, seed=0)
            found = dataclasses.replace(found, batch=self.classes_per_batch * self.samples_per_class)
        return super(SupCon, found).resolve(source, runtime)

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The projector."""
        return {"projector": self.projector.build(width)}

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The contrast of projections of both views with those of samples that share labels."""
        assert batch.labels is not None
        both = torch.cat([state.heads["projector"](view) for view in self.encoded(batch, state)])
        loss = sup_con(
            both,
            repeated(batch.labels, self.drawn_views),
            self.contrast_temperature,
            positives=self.positives,
            threshold=self.threshold,
            weighted=self.weighted,
            inside=self.inside,
            samples=repeated(batch.rows, self.drawn_views).to(both.device),
        )
        return {"contrast": loss}

    def rows_at(self, state: Learning, runtime: Runtime) -> Rows:
        """The rows of the next step: any samples, or so many of each of some classes."""
        if not self.classes_per_batch:
            return super().rows_at(state, runtime)
        epoch, number = divmod(state.done, self.steps_per_epoch)
        if state.order_of != epoch:
            batches = self._batches(state.source, state.learn, derived_seed(runtime.seed, "classes of batches"))
            state.order, state.order_of = state.learn[batches.rows_at(epoch)], epoch
        return state.order[number * self.batch :][: self.batch]

    def _batches(self, source: Source, learn: Rows, seed: int) -> ClassBatches:
        """The sampler of batches of classes."""
        assert source.train.labels is not None
        count = self.steps_per_epoch if self.samples else 1
        return ClassBatches(source.train.labels[learn], self.classes_per_batch, self.samples_per_class, seed, count)
