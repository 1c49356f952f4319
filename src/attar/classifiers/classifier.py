"""A classifier of its own, trained on labels: with any loss, with dropout, and with many masks of dropout.

The baseline of distillation is the same training (`alone`). Use this method where there is no teacher and little data:
to compare losses (`--loss`), to drop features (`--dropout-samples`), and to make a teacher for `attar distill`.
"""

from dataclasses import dataclass, field
from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from attar.classifiers.fitting import Fitting
from attar.classifiers.labelled import label_loss
from attar.classifiers.pair import Batch
from attar.core.losses import Loss
from attar.core.settings import Range, Role


@dataclass(frozen=True, kw_only=True)
class Classifier(Fitting):
    """Train a classifier on labels."""

    network: str = "convnet:norm=batch"
    """The network, by words: convnet:norm=batch,width=16, resnet18, mlp, transformers:FOLDER."""
    loss: Annotated[Loss, Role()] = field(default_factory=Loss)
    """Loss of the labels."""
    smoothing: Annotated[float, Range(0, 1)] = 0.0
    """Share of each label that is spread evenly over all classes (label smoothing)."""

    name = "classifier"
    verb = "train"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_loss(self.loss, self.smoothing)

    @property
    def built_by(self) -> str:
        """The name of the network that is trained."""
        return self.network

    def label_term(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss of the labels."""
        return label_loss(batch, self.loss, self.smoothing, self.dropout_average)
