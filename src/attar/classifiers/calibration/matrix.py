"""Matrix scaling: a linear map of the logits.

It has K² + K parameters and overfits beyond some ten classes unless it is penalised (ODIR) or has tens of thousands of
rows. It may change predictions.
Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599. The penalty:
Kull et al., NeurIPS 2019, arXiv:1910.12656.
"""

from dataclasses import dataclass
from typing import Annotated

import torch

from attar.classifiers.calibration.affine import Affine, fitted
from attar.classifiers.calibration.calibration import Labels, Learned, Logits, Views
from attar.core.settings import Range


@dataclass(frozen=True, kw_only=True)
class MatrixScaling(Affine):
    """Map logits by a matrix (Guo, Pleiss, Sun and Weinberger, ICML 2017, arXiv:1706.04599).

    p = softmax(W z + b), with the penalty λ mean_{i≠j} W_ij² + μ mean_j b_j².
    """

    off_diagonal_penalty: Annotated[float, Range(0)] = 0.0
    """Weight λ of the mean square of W off its diagonal. Choose it by cross-validation from 1e-2 to 1e3."""
    intercept_penalty: Annotated[float, Range(0)] = 0.0
    """Weight μ of the mean square of the shifts. It is 0 in the paper of vector and matrix scaling."""

    name = "matrix-scaling"

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """The matrix and the shifts."""
        return fitted(
            self.inputs(logits),
            labels,
            full=True,
            off_diagonal=self.off_diagonal_penalty,
            intercept=self.intercept_penalty,
            iterations=self.iterations,
        )
