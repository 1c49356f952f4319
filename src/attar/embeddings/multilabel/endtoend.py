"""An encoder and a linear classifier, trained together on labels: BCE, the focal loss or ASL, or cross-entropy.

The rival of every other method for several labels, since it has the same views; on tables and small sets of images it
is hard to beat. ASL: Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021, arXiv:2009.14119; see
`asl.py` for the other losses.
"""

import dataclasses
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from attar.core.runtime import Runtime
from attar.embeddings.encoders import Features
from attar.embeddings.learner import About, Batch, Learning, Terms
from attar.embeddings.linear import LINEAR, Loss, classification_loss, loss_for
from attar.embeddings.multilabel.shared import MultiLabelLearner
from attar.embeddings.sources import Source

CLASSIFIER = "classifier"


@dataclass(frozen=True, kw_only=True)
class MultiLabel(MultiLabelLearner):
    """Train encoder and classifier together, with BCE, focal or ASL (Ridnik et al., ICCV 2021, arXiv:2009.14119)."""

    loss: Loss = "auto"
    """Loss: bce, focal or asl for samples of several labels, cross-entropy for samples of one. auto: bce, or
    cross-entropy."""

    name = "multilabel"
    drawn_views = 1

    def resolve(self, source: Source, runtime: Runtime) -> Self:
        """The settings for these data.

        Raises:
            InputError: There are no labels, or the loss is for others.
        """
        settings = super().resolve(source, runtime)
        return dataclasses.replace(settings, loss=loss_for(source, self.loss, "bce", flag="loss"))

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The classifier."""
        return {CLASSIFIER: nn.Linear(width, about.classes)}

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The loss of the classifier's answers."""
        (features,) = self.encoded(batch, state)
        assert batch.labels is not None
        return {self.loss: classification_loss(state.heads[CLASSIFIER](features), batch.labels, self.loss)}

    def outputs(self, features: Features, heads: nn.ModuleDict) -> dict[str, Tensor]:
        """The classifier's answers; those of the one that was trained last, if there are two."""
        return {"logits": heads[LINEAR if LINEAR in heads else CLASSIFIER](features)}
