"""A classifier of its own, trained on labels: with any loss, with dropout, and with many masks of dropout.

The baseline of distillation is the same training (`alone`). Use this method where there is no teacher and little data:
to compare losses (`--loss`), to drop features (`--dropout-samples`), and to make a teacher for `attar distill`.
"""

from dataclasses import dataclass, field
from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from attar.classifiers.calibration.mmce import mmce
from attar.classifiers.fitting import Fitting
from attar.classifiers.labelled import label_loss
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.core.errors import InputError
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
    mmce_weight: Annotated[float, Range(0)] = 0.0
    """Weight of MMCE, a penalty on miscalibration (Kumar, Sarawagi and Jain, ICML 2018), with right and wrong
    predictions averaged apart."""

    name = "classifier"
    verb = "train"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_loss(self.loss, self.smoothing)
        if self.mmce_weight and (self.mixup or self.cutmix):
            raise InputError("mmce_weight needs one class for each image. Do not set mixup or cutmix.")

    @property
    def built_by(self) -> str:
        """The name of the network that is trained."""
        return self.network

    def label_term(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss of the labels."""
        return label_loss(batch, self.loss, self.smoothing, self.dropout_average)

    def loss_terms(self, batch: Batch, state: Distilling) -> Terms:
        """The term of the labels, and the penalty on miscalibration."""
        terms = super().loss_terms(batch, state)
        if not self.mmce_weight:
            return terms
        return {**terms, "mmce": self.mmce_weight * mmce(batch.student.logits, batch.labels, weighted=True)}
