"""What the methods for several labels share: their views, and labels as rows of yes and no."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Self

import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.embeddings.learner import Learner
from attar.embeddings.sources import HELD_OUT, Labels, Source
from attar.embeddings.views import LARGE, Views


@dataclass(frozen=True, kw_only=True)
class MultiLabelLearner(Learner):
    """Settings of the methods that learn from labels, of which a sample may have several."""

    epochs: Annotated[int, Range(1)] = 40
    """Passes over the training data."""
    held_out: Annotated[float, Range(0, 0.9)] = HELD_OUT
    """Share of the training samples that is held out: the method does not learn from them. Thresholds are chosen on
    them."""

    needs = "labels"

    def resolve(self, source: Source, runtime: Runtime) -> Self:
        """The settings for these data.

        Raises:
            InputError: The data lack what the method needs.
        """
        found = dataclasses.replace(self, view=views_with_all_labels(self.view, source))
        return super(MultiLabelLearner, found).resolve(source, runtime)


def views_with_all_labels(view: Views, source: Source) -> Views:
    """The usual views of images with labels: a crop can lose a label, so they are KMCL's.

    Images below 64 pixels are only mirrored: a cutout of half the side would take a whole object.
    """
    if view.recipe != "auto" or source.tabular:
        return view
    if min(source.shape[1:]) >= LARGE:
        return dataclasses.replace(view, recipe="kmcl")
    flip = 0.5 if source.flips and view.flip is None else view.flip
    return dataclasses.replace(view, recipe="none", flip=flip)


def present(labels: Labels, classes: int) -> Bool[Tensor, "sample classes"]:
    """Which of the classes each sample has; of a class each, a row with one yes."""
    return labels if labels.ndim == 2 else F.one_hot(labels, classes).bool()
