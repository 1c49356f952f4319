"""Losses by which calibrators are chosen. They are functions of logits and labels, and give the loss of each sample.

The correctness-aware loss is the Brier score of the top class: it pulls confidence to 1 where the prediction is right,
and towards 0 where it is wrong. Cross-entropy and the Brier score of all classes hardly do the latter if the right
class is a close second.
Liu, Wang, Zou, Zou and Zheng, Optimizing Calibration by Gaining Aware of Prediction Correctness, 2024,
arXiv:2404.13016.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.calibration.calibration import Labels, Logits, correct, wider

Each = Float[Tensor, " sample"]
EachLoss = Callable[[Logits, Labels], Each]


def cross_entropy(logits: Logits, labels: Labels) -> Each:
    """-log p_y."""
    return F.cross_entropy(logits, labels, reduction="none")


def brier(logits: Logits, labels: Labels) -> Each:
    """Σ_k (p_k - 1[y = k])². Its minimisers are those of the mean over classes."""
    p = logits.softmax(dim=1)
    right = p.gather(1, labels[:, None]).squeeze(1)
    return p.square().sum(dim=1) - 2 * right + 1


def top_label(logits: Logits, labels: Labels) -> Each:
    """(max_k p_k - c)², c = 1 if the prediction is right, otherwise 0."""
    return (logits.softmax(dim=1).amax(dim=1) - correct(logits, labels)).square()


def balance(right: Each) -> Each:
    """Weights 1 - a of right and a of wrong predictions, a the accuracy, so that both weigh the same together.

    With all right or all wrong these weights would sum to zero; then all are 1 (the released code divides 0 by 0).
    """
    accuracy = right.mean()
    weights = torch.where(right > 0, 1 - accuracy, accuracy)
    return weights if bool(weights.sum() > 0) else torch.ones_like(weights)


def top_label_brier(logits: Logits, labels: Labels) -> Float[Tensor, ""]:
    """The mean of (max_k p_k - c)², in float32 at least."""
    return ca_loss(logits, labels)


def ca_loss(logits: Logits, labels: Labels, balanced: bool = False) -> Float[Tensor, ""]:
    """The correctness-aware loss Σ w (max_k p_k - c)² / Σ w.

    Without weights its minimiser is the probability p of being right. With balanced weights it is
    (1 - a) p / ((1 - a) p + a (1 - p)), which is ½ at the accuracy a: under-confident on data like those of the fit,
    and nearer to the truth on data where the classifier is worse.

    Args:
        logits: The logits.
        labels: The class of each sample.
        balanced: Whether right and wrong predictions weigh the same together.
    """
    logits = wider(logits)
    losses = top_label(logits, labels)
    if not balanced:
        return losses.mean()
    weights = balance(correct(logits, labels))
    return (weights * losses).sum() / weights.sum()
