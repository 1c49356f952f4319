"""Vector scaling: each logit gets a factor and a shift of its own.

Prefer it to one temperature where some classes are over-confident and others are not, or where classes are rarer in the
calibration rows than in the training data. It may change predictions.
Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599.
"""

from dataclasses import dataclass
from typing import Annotated

import torch

from attar.classifiers.calibration.affine import Affine, fitted
from attar.classifiers.calibration.calibration import Labels, Learned, Logits, Views
from attar.core.settings import Range


@dataclass(frozen=True, kw_only=True)
class VectorScaling(Affine):
    """Scale and shift each logit (Guo, Pleiss, Sun and Weinberger, ICML 2017, arXiv:1706.04599).

    p = softmax(a ⊙ z + b).
    """

    intercept_penalty: Annotated[float, Range(0)] = 0.0
    """Weight μ of the mean square of the shifts. It is 0 in the paper of vector and matrix scaling."""

    name = "vector-scaling"

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """The factors and shifts."""
        return fitted(logits, labels, full=False, intercept=self.intercept_penalty, iterations=self.iterations)
