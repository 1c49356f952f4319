"""Train a teacher that finds subclasses by itself: a contrast keeps the samples of a batch from equal outputs.

Use it for SKD if only classes are labelled: train this, and give its folder as the teacher (`attar distill skd
--no-known --teacher FOLDER`). Batches should be large, because the contrast acts only on samples of the same batch.
Müller, Kornblith and Hinton, Subclass Distillation, arXiv:2002.03936.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.distillation import Distillation
from attar.classifiers.dropout import over_masks
from attar.classifiers.pair import Batch
from attar.classifiers.subclasses import Grouping, SubclassLogits
from attar.core.presets import published
from attar.core.settings import Range
from attar.images.sources import ImageSource

EPSILON = 1e-9
"""Added to a variance before its square root is taken (the authors' notebook)."""


@dataclass(frozen=True, kw_only=True)
class Discover(Distillation):
    """Find subclasses while learning classes (Müller, Kornblith and Hinton, arXiv 2020, arXiv:2002.03936).

    L = CE(Z, y) + β L_neg, where Z_c is the log of the summed exponentials of a class's `subclasses` logits.
    """

    student: str = "convnet:norm=batch"
    """The student. Name of the network that is trained here and becomes a teacher."""
    batch: Annotated[int, Range(2)] = 256
    """Batch size: number of images per step."""
    subclasses: Annotated[int, Range(1)] = 5
    """Number of subclasses of each class."""
    contrast_weight: Annotated[float, Range(0)] = 1.0
    """Weight β of the contrast, which keeps the samples of a batch apart."""
    contrast_temperature: Annotated[float, Range(0.01)] = 1.0
    """Temperature τ of the contrast."""

    moved = MappingProxyType({**Distillation.moved, "beta": "contrast_weight", "contrast": "contrast_temperature"})
    name = "discover"
    takes_label_loss = False
    needs_teacher = False

    def outputs(self, source: ImageSource) -> int:
        """One logit for every subclass."""
        return self.subclasses * len(source.classes)

    def grouping_of(self, outputs: int) -> Grouping:
        """The grouping: the first `subclasses` logits belong to the first class, and so on."""
        return Grouping(tuple(number // self.subclasses for number in range(outputs)))

    def group_of(self, outputs: int) -> tuple[int, ...]:
        """The class of each logit."""
        return self.grouping_of(outputs).group

    def label_term(self, batch: Batch) -> Float[Tensor, ""]:
        """The cross-entropy of the classes and the contrast between samples."""
        logits = batch.student.logits
        over = self.grouping_of(logits.shape[1]).class_logits
        labels = over_masks(
            batch,
            self.dropout_average,
            lambda said: F.cross_entropy(over(said), batch.labels, label_smoothing=self.smoothing),
        )
        return self.label_weight * labels + self.contrast_weight * decorrelation(logits, self.contrast_temperature)

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of the authors' notebook.

        Args:
            data: mnist-2x5 (class 0: digits below five; class 1: the others).

        Raises:
            InputError: Another data set.
        """
        return published(cls, data)


def decorrelation(logits: SubclassLogits, temperature: float = 1.0) -> Float[Tensor, ""]:
    """L_neg, by which a teacher discovers subclasses: the samples of a batch should have different logits.

    Let v_i be a sample's logits at mean zero and variance one, with S subclasses and B samples. The loss is
    mean_i log Σ_i' exp(⟨v_i, v_i'⟩ / (τ S)) - 1 / τ - log B. It is never positive, and zero if all samples are alike.
    """
    samples, subclasses = logits.shape
    centred = logits - logits.mean(dim=1, keepdim=True)
    rows = centred / (logits.var(dim=1, keepdim=True, correction=0) + EPSILON).sqrt()
    alike = rows @ rows.T / (temperature * subclasses)
    return alike.logsumexp(dim=1).mean() - 1 / temperature - math.log(samples)
