"""MMCE: a penalty on miscalibration that is added to the loss while a network is trained.

Use it as a control beside calibrators, which come after the training. Label smoothing (`--smoothing`), mixup
(`--mixup`) and focal loss (`--loss focal`) are other ones. It is a kernel's measure of how far confidence and
correctness differ, computed over the pairs of a batch.
Kumar, Sarawagi and Jain, Trainable Calibration Measures for Neural Networks from Kernel Mean Embeddings, ICML 2018.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.classifiers.calibration.calibration import Labels, Logits, correct, wider

WIDTH = 0.4
"""Width of the Laplace kernel in confidence."""


def mmce(logits: Logits, labels: Labels, *, weighted: bool = False, width: float = WIDTH) -> Float[Tensor, ""]:
    """The maximum mean calibration error of a batch.

    √(Σ_ij (c_i - r_i)(c_j - r_j) k(r_i, r_j) / n²), k = exp(-|r_i - r_j| / width), c correctness and r confidence. The
    kernel is positive definite, so the sum is not negative. Weighted, right and wrong samples are averaged apart: e_i =
    (1 - r_i) / n₊ where right and -r_i / n₋ where wrong, √(Σ_ij e_i e_j k).

    Args:
        logits: The logits.
        labels: The class of each sample.
        weighted: Whether right and wrong samples are averaged apart. Of a batch with only one of the two the plain
            average is taken.
        width: Width of the kernel.
    """
    logits = wider(logits)
    r, c = logits.softmax(dim=1).amax(dim=1), correct(logits, labels)
    kernel = torch.exp(-(r[:, None] - r[None]).abs() / width)
    right, wrong = c.sum(), (1 - c).sum()
    share = torch.full_like(c, 1 / len(c))
    if weighted:
        apart = torch.where(c > 0, 1 / right.clamp_min(1), 1 / wrong.clamp_min(1))
        share = torch.where((right > 0) & (wrong > 0), apart, share)
    error = share * (c - r)
    return (error @ kernel @ error).clamp_min(torch.finfo(logits.dtype).tiny).sqrt()


class MMCELoss(nn.Module):
    """Cross-entropy with the penalty MMCE (Kumar, Sarawagi and Jain, ICML 2018), for any training loop.

    Args:
        weight: Weight λ of the penalty. It is tuned for each task.
        weighted: Whether right and wrong samples are averaged apart.
        width: Width of the kernel in confidence.

    Example:
        >>> loss = MMCELoss(weight=2.0)
        >>> loss(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])).ndim
        0
    """

    def __init__(self, weight: float = 2.0, *, weighted: bool = True, width: float = WIDTH) -> None:
        super().__init__()
        self.weight, self.weighted, self.width = weight, weighted, width

    def forward(self, logits: Logits, labels: Labels) -> Float[Tensor, ""]:
        """The mean cross-entropy, and λ MMCE."""
        wide = wider(logits)
        penalty = mmce(wide, labels, weighted=self.weighted, width=self.width)
        return F.cross_entropy(wide, labels) + self.weight * penalty
