"""Dirichlet calibration: a linear map of log-probabilities, with the penalty ODIR.

Prefer it where confusions between pairs of classes are not what the probabilities say, and rows are plenty. Two classes
make it beta calibration. It may change predictions.
Kull, Perello-Nieto, Kängsepp, Silva Filho, Song and Flach, Beyond temperature scaling: Obtaining well-calibrated
multi-class probabilities with Dirichlet calibration, NeurIPS 2019, arXiv:1910.12656.
"""

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F

from attar.classifiers.calibration.calibration import Logits
from attar.classifiers.calibration.matrix import MatrixScaling
from attar.core.settings import Range

LOWEST = -50.0
"""Log-probabilities below it are set to it, so that a class that is out of the question does not decide the fit."""


@dataclass(frozen=True, kw_only=True)
class DirichletCalibration(MatrixScaling):
    """Map log-probabilities by a matrix (Kull et al., NeurIPS 2019, arXiv:1910.12656).

    p' = softmax(W log p + b), with the penalty λ mean_{i≠j} W_ij² + μ mean_j b_j² (off-diagonal and intercept
    regularisation, ODIR).
    """

    off_diagonal_penalty: Annotated[float, Range(0)] = 0.01
    """Weight λ of the mean square of W off its diagonal. Choose it by cross-validation from 1e-2 to 1e3."""
    intercept_penalty: Annotated[float, Range(0)] = 0.01
    """Weight μ of the mean square of the shifts. It is 0 in the paper of vector and matrix scaling."""

    name = "dirichlet"

    def inputs(self, logits: Logits) -> Logits:
        """The log-probabilities."""
        return F.log_softmax(logits, dim=1).clamp_min(LOWEST)
