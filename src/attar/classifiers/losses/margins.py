"""Losses of the margin of two classes: the logistic loss, hinges, the exponential and the focal loss.

The margin of a score f is s = y f, with y = ±1: it is positive where the sign of the score is right. All of these
losses but the focal one are convex and calibrated (φ'(0) < 0). Hinges of this file are 1 - s up to s = 1 and differ in
their tails beyond. The Log-Hinge has the tail of EnsLoss (`attar.classifiers.losses.ensloss`) without its randomness
and is the rival that EnsLoss has to beat.

Bartlett, Jordan and McAuliffe, Convexity, Classification, and Risk Bounds, JASA 2006, say when a convex loss is
calibrated. The tails are compared by Dai, EnsLoss, ICML 2025, arXiv:2409.00908; his code has the Exp-Hinge without the
-1, and NaN for all samples of a batch if one score is zero. The focal loss is that of Lin, Goyal, Girshick, He and
Dollár, Focal Loss for Dense Object Detection, ICCV 2017, arXiv:1708.02002, without its weights of classes.

With more than two classes the modules take each class against the rest and average over classes.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.losses.scores import MarginLoss, checked_setting
from attar.core.precision import at_least_float32

Margins = Float[Tensor, "*sample"]

LARGEST_EXPONENT = {torch.float32: 60.0, torch.float64: 500.0}
"""Where the exponential loss goes on as a straight line, so that a batch of very wrong samples has a finite loss."""


def bce(margins: Margins, smoothing: float = 0.0) -> Margins:
    """The logistic loss log(1 + e^-s), which is binary cross-entropy.

    Args:
        margins: s.
        smoothing: Share ε of a label that is spread over both classes: (1 - ε/2) φ(s) + (ε/2) φ(-s). The smallest loss
            then lies at a finite margin.
    """
    margins = at_least_float32(margins)
    right = -F.logsigmoid(margins)
    if not smoothing:
        return right
    return (1 - smoothing / 2) * right + smoothing / 2 * -F.logsigmoid(-margins)


def hinge(margins: Margins) -> Margins:
    """max(0, 1 - s), with no gradient from s = 1 on."""
    margins = at_least_float32(margins)
    return torch.where(margins < 1, 1 - margins, 0.0)


def squared_hinge(margins: Margins) -> Margins:
    """max(0, 1 - s)²."""
    return hinge(margins).square()


def exponential(margins: Margins) -> Margins:
    """e^-s.

    Its gradient grows as fast as the loss, so that training needs a bound on the gradient's norm. Below s = -60 (-500
    in double precision) the loss goes on as a straight line, because single precision ends near e^88.
    """
    margins = at_least_float32(margins)
    most = LARGEST_EXPONENT[margins.dtype]
    inside = (-margins).clamp(max=most)
    return torch.where(margins < -most, math.exp(most) * (1 - margins - most), inside.exp())


def log_hinge(margins: Margins) -> Margins:
    """1 - s up to s = 1, then -log s, with the derivative -1/s."""
    margins = at_least_float32(margins)
    return _hinged(margins, -margins.clamp(min=1).log())


def inv_hinge(margins: Margins) -> Margins:
    """1 - s up to s = 1, then 1/s - 1, with the derivative -1/s²."""
    margins = at_least_float32(margins)
    return _hinged(margins, margins.clamp(min=1).reciprocal() - 1)


def exp_hinge(margins: Margins) -> Margins:
    """1 - s up to s = 1, then e^-(s - 1) - 1."""
    margins = at_least_float32(margins)
    return _hinged(margins, (1 - margins.clamp(min=1)).expm1())


def inverse_log_hinge(margins: Margins) -> Margins:
    """1 - s up to s = 1, then e / log(s + e - 1) - e."""
    margins = at_least_float32(margins)
    return _hinged(margins, math.e / (margins.clamp(min=1) + (math.e - 1)).log() - math.e)


def focal(margins: Margins, gamma: float = 2.0) -> Margins:
    """The logistic loss times (1 - p)^γ, with p = σ(s): samples that are right already count less. It is not convex.

    Args:
        margins: s = y f.
        gamma: γ, at least 0; 0 gives the logistic loss.
    """
    margins = at_least_float32(margins)
    return (gamma * F.logsigmoid(-margins)).exp() * -F.logsigmoid(margins)


def _hinged(margins: Tensor, tail: Tensor) -> Tensor:
    """1 - s up to s = 1, then a tail, which was computed of margins of at least 1, so that its gradient is finite."""
    return torch.where(margins <= 1, 1 - margins, tail)


class CrossEntropy(MarginLoss):
    """The cross-entropy of the softmax. Of one logit, or two, it is the logistic loss of the margin."""

    def of_margins(self, margins: Margins, drawn: Tensor | None = None) -> Margins:
        """The logistic loss."""
        return bce(margins)

    def values(self, logits: Tensor, labels: Tensor, drawn: Tensor | None = None) -> Tensor:
        """The loss of each sample."""
        if logits.shape[-1] == 1:
            return super().values(logits, labels)
        return F.cross_entropy(at_least_float32(logits), labels, reduction="none")


class BCE(MarginLoss):
    """The logistic loss. See `bce`."""

    settings = ("smoothing",)

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = checked_setting("smoothing", smoothing, most=1.0)

    def of_margins(self, margins: Margins, drawn: Tensor | None = None) -> Margins:
        """The loss of each margin."""
        return bce(margins, self.smoothing)


class Hinge(MarginLoss):
    """The hinge loss. See `hinge`."""

    def of_margins(self, margins: Margins, drawn: Tensor | None = None) -> Margins:
        """The loss of each margin."""
        return hinge(margins)


class SquaredHinge(MarginLoss):
    """The squared hinge loss. See `squared_hinge`."""

    def of_margins(self, margins: Margins, drawn: Tensor | None = None) -> Margins:
        """The loss of each margin."""
        return squared_hinge(margins)


class Exponential(MarginLoss):
    """The exponential loss. See `exponential`."""

    def of_margins(self, margins: Margins, drawn: Tensor | None = None) -> Margins:
        """The loss of each margin."""
        return exponential(margins)


class LogHinge(MarginLoss):
    """The Log-Hinge. See `log_hinge`."""

    def of_margins(self, margins: Margins, drawn: Tensor | None = None) -> Margins:
        """The loss of each margin."""
        return log_hinge(margins)


class InvHinge(MarginLoss):
    """The Inv-Hinge. See `inv_hinge`."""

    def of_margins(self, margins: Margins, drawn: Tensor | None = None) -> Margins:
        """The loss of each margin."""
        return inv_hinge(margins)


class ExpHinge(MarginLoss):
    """The Exp-Hinge. See `exp_hinge`."""

    def of_margins(self, margins: Margins, drawn: Tensor | None = None) -> Margins:
        """The loss of each margin."""
        return exp_hinge(margins)


class InverseLogHinge(MarginLoss):
    """The 1/log-Hinge. See `inverse_log_hinge`."""

    def of_margins(self, margins: Margins, drawn: Tensor | None = None) -> Margins:
        """The loss of each margin."""
        return inverse_log_hinge(margins)


class Focal(MarginLoss):
    """The focal loss. See `focal`."""

    settings = ("gamma",)

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = checked_setting("gamma", gamma)

    def of_margins(self, margins: Margins, drawn: Tensor | None = None) -> Margins:
        """The loss of each margin."""
        return focal(margins, self.gamma)
