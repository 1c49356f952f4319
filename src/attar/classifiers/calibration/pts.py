"""PTS: a small network reads the largest logits of a sample and gives it a temperature of its own.

Prefer it to one temperature from some thousand calibration rows on, if confidences are also used to sort samples: with
one temperature their order stays nearly the same. It keeps predictions.
Tomani, Cremers and Buettner, Parameterized Temperature Scaling for Boosting the Expressive Power in Post-Hoc
Uncertainty Calibration, ECCV 2022, arXiv:2102.12182.
The released code takes 100,000 steps. Here the network starts at a temperature of 1, and stops at the best step on
held-out calibration rows.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.classifiers.calibration.calibration import Labels, Learned, Logits, Views
from attar.classifiers.calibration.losses import brier, cross_entropy
from attar.classifiers.calibration.network import ByDescent, Features, answered, folded, spread, started
from attar.core.settings import Range

CLIP = 100.0
"""Size at which logits are cut before the network reads them."""
TINY, HUGE = 1e-12, 1e12
"""The smallest and largest temperature of the released code."""


@dataclass(frozen=True, kw_only=True)
class ParameterisedScaling(ByDescent):
    """Predict each sample's temperature from its logits (Tomani, Cremers and Buettner, ECCV 2022, arXiv:2102.12182).

    p = softmax(z / T(z)), T(z) = |g(the largest logits, sorted)|.
    """

    top_classes: Annotated[int, Range(1)] = 10
    """Number k of classes that the network reads, those with the largest logits."""
    hidden: tuple[Annotated[int, Range(1)], ...] = (5, 5)
    """Units of each hidden layer of the network."""
    loss: Literal["brier", "nll"] = "brier"
    """Loss of the fit: the Brier score of all classes, as in the paper, or the negative log-likelihood."""
    weight_decay: Annotated[float, Range(0)] = 0.0
    """Weight decay: λ Σ W² over hidden layers is added to the loss."""

    name = "pts"

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """The network."""
        features = largest(logits, self.top_classes)
        mean, scale = spread(features)
        standard = (features - mean) / scale
        start = started([features.shape[1], *self.hidden, 1], generator, output=1.0)

        def loss(learned: Learned, rows: Int[Tensor, " row"]) -> Float[Tensor, ""]:
            temperature = positive(answered(learned, standard[rows]))
            return self.loss_at(logits[rows] / temperature[:, None], labels[rows], learned)

        found = self.fitted(start, loss, len(logits), generator)
        return folded(found, mean, scale)

    def loss_at(self, scaled: Logits, labels: Labels, learned: Learned) -> Float[Tensor, ""]:
        """The loss of scaled logits, with the penalty of the network. The Brier score is divided by the classes."""
        each = brier(scaled, labels) / scaled.shape[1] if self.loss == "brier" else cross_entropy(scaled, labels)
        layers = sum(name.startswith("weight") for name in learned)
        decay = sum(learned[f"weight{layer}"].square().sum() for layer in range(layers - 1))
        return each.mean() + self.weight_decay * decay

    def calibrated(self, learned: Learned, logits: Logits, views: Views) -> Logits:
        """The log-softmax of the scaled logits."""
        return F.log_softmax(logits / self.temperature(learned, logits)[:, None], dim=1)

    def temperature(self, learned: Learned, logits: Logits) -> Float[Tensor, " sample"]:
        """The temperature of each sample."""
        return positive(answered(learned, largest(logits, self.top_classes)))


def largest(logits: Logits, top: int) -> Features:
    """The largest logits of each sample in descending order, cut at ±100."""
    return logits.topk(min(top, logits.shape[1]), dim=1).values.clamp(-CLIP, CLIP)


def positive(output: Float[Tensor, " sample"]) -> Float[Tensor, " sample"]:
    """|output|, from 1e-12 to 1e12."""
    return output.abs().clamp(TINY, HUGE)
