"""ASL and its relatives: losses for samples with several labels, most of which are absent.

Binary cross-entropy weighs all labels alike. The focal loss weighs down what is easy, the asymmetric loss (ASL) does so
with absent labels more than with present ones, and forgets absent labels of small probability altogether. ASL is worth
trying when a sample has few of many labels; on small tables BCE is as good.
Ridnik, Ben-Baruch, Zamir, Noy, Friedman, Protter and Zelnik-Manor, Asymmetric Loss For Multi-Label Classification, ICCV
2021, arXiv:2009.14119. Lin, Goyal, Girshick, He and Dollár, Focal Loss for Dense Object Detection, ICCV 2017,
arXiv:1708.02002.

Logarithms are taken of logits, so that no probability is clamped. The authors' code clamps them at 1e-8, and a present
label whose logit lies below −18.4 gets no gradient; `clamp=1e-8` does the same.
"""

import math
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from attar.core.errors import InputError, unknown
from attar.core.precision import at_least_float32
from attar.embeddings.checks import checked_number

Logits = Float[Tensor, "sample classes"]
Labels = Shaped[Tensor, "_sample _classes"]
"""One, or true, where a sample has the label, zero elsewhere. Their shape is checked, with a message."""
Reduction = Literal["sum", "batchmean", "mean"]
"""Over samples and classes: the sum, the sum divided by the number of samples, or the mean."""

ASL_SCRIPT: dict[str, Any] = {"gamma_neg": 4.0, "gamma_pos": 0.0, "clip": 0.05, "stop_weight_grad": True}
"""What the authors train with. Their class has γ₊ = 1, and in its optimised form a gradient through the weights."""


def bce_loss(logits: Logits, labels: Labels, *, reduction: Reduction = "batchmean") -> Float[Tensor, ""]:
    """Binary cross-entropy, −Σ y log p + (1 − y) log(1 − p) with p = σ(s).

    Args:
        logits: s, a row for each sample.
        labels: y, rows of 0 and 1.
        reduction: How terms become one number.
    """
    logits, labels = _checked(logits, labels)
    return reduced(F.binary_cross_entropy_with_logits(logits, labels, reduction="none"), reduction)


def focal_loss(
    logits: Logits,
    labels: Labels,
    *,
    gamma: float = 2.0,
    stop_weight_grad: bool = False,
    reduction: Reduction = "batchmean",
) -> Float[Tensor, ""]:
    """Binary cross-entropy whose terms have the weights (1 − p)^γ and p^γ: how wrong they are.

    Args:
        logits: A score s for each label, p = σ(s).
        labels: Which labels are present.
        gamma: γ.
        stop_weight_grad: Whether the weights are constants.
        reduction: How terms become one number.
    """
    how: dict[str, Any] = {"gamma_neg": gamma, "gamma_pos": gamma, "clip": 0.0, "stop_weight_grad": stop_weight_grad}
    return asymmetric_loss(logits, labels, **how, reduction=reduction)


def asymmetric_loss(
    logits: Logits,
    labels: Labels,
    *,
    gamma_neg: float = 4.0,
    gamma_pos: float = 0.0,
    clip: float | None = 0.05,
    stop_weight_grad: bool = True,
    clamp: float = 0.0,
    reduction: Reduction = "batchmean",
) -> Float[Tensor, ""]:
    """ASL: −Σ y (1 − p)^γ₊ log p + (1 − y) p_m^γ₋ log(1 − p_m), with p = σ(s) and p_m = max(p − c, 0).

    Without γ and c it is binary cross-entropy. An absent label with p ≤ c has neither loss nor gradient.

    Args:
        logits: A score s for each label.
        labels: Which labels are present.
        gamma_neg: γ₋, the focus on absent labels.
        gamma_pos: γ₊, the focus on present labels.
        clip: c, by which the probability of absent labels is lowered. None is 0.
        stop_weight_grad: Whether the weights are constants.
        clamp: Floor of the probabilities in logarithms; 1e-8 in the authors' code, 1e-7 in KMCL's. Below it there is no
            gradient.
        reduction: How terms become one number. The authors' code sums, so that its step size depends on the batch.
    """
    logits, labels = _checked(logits, labels)
    checked_number("gamma_neg", gamma_neg)
    checked_number("gamma_pos", gamma_pos)
    checked_number("clip", clip or 0.0, most=1.0)
    shift, floor = clip or 0.0, math.log(clamp) if clamp else -math.inf
    with torch.set_grad_enabled(torch.is_grad_enabled() and not stop_weight_grad):
        weights = labels * _power(F.logsigmoid(-logits), gamma_pos)
        weights = weights + (1 - labels) * _shifted_power(logits, shift, gamma_neg)
    log_absent = torch.log1p(-_shifted(logits, shift)) if shift else F.logsigmoid(-logits)
    log_right = labels * F.logsigmoid(logits).clamp(min=floor) + (1 - labels) * log_absent.clamp(min=floor)
    return reduced(-weights * log_right, reduction)


def asymmetric_loss_one_label(
    logits: Logits,
    labels: Int[Tensor, " sample"],
    *,
    gamma_neg: float = 4.0,
    gamma_pos: float = 0.0,
    smoothing: float = 0.1,
) -> Float[Tensor, ""]:
    """ASL for samples of one label: cross-entropy of a softmax, whose terms have the weights of ASL.

    It is the authors' `ASLSingleLabel`, averaged over samples: weights (1 − p)^γ₊ of the right class and p^γ₋ of the
    others, then smoothed labels; the gradient passes through the weights.

    Args:
        logits: A row for each sample.
        labels: The class of each.
        gamma_neg: γ₋ of the other classes.
        gamma_pos: γ₊ of the right class.
        smoothing: The share of the label that all classes divide among them.
    """
    logits = at_least_float32(logits)
    log_share = logits.log_softmax(dim=1)
    right = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    share = log_share.exp()
    weights = right * (1 - share).pow(gamma_pos) + (1 - right) * share.pow(gamma_neg)
    smooth = right * (1 - smoothing) + smoothing / logits.shape[1]
    return -(smooth * weights * log_share).sum(dim=1).mean()


class BinaryCrossEntropy(nn.Module):
    """`bce_loss` as a module."""

    def __init__(self, reduction: Reduction = "batchmean") -> None:
        super().__init__()
        self.reduction: Reduction = reduction

    def forward(self, logits: Logits, labels: Labels) -> Float[Tensor, ""]:
        """The loss of a batch."""
        return bce_loss(logits, labels, reduction=self.reduction)


class FocalLoss(nn.Module):
    """`focal_loss` as a module.

    Args:
        gamma: γ, the focus on labels that are not right yet.
        stop_weight_grad: Whether the weights are constants.
        reduction: How terms become one number.
    """

    def __init__(
        self, gamma: float = 2.0, *, stop_weight_grad: bool = False, reduction: Reduction = "batchmean"
    ) -> None:
        super().__init__()
        self.how: dict[str, Any] = {"gamma": gamma, "stop_weight_grad": stop_weight_grad, "reduction": reduction}

    def forward(self, logits: Logits, labels: Labels) -> Float[Tensor, ""]:
        """The loss of a batch."""
        return focal_loss(logits, labels, **self.how)


class AsymmetricLoss(nn.Module):
    """`asymmetric_loss` as a module.

    Args:
        gamma_neg: γ₋, the focus on absent labels.
        gamma_pos: γ₊, the focus on present labels.
        clip: c, by which the probability of absent labels is lowered. None is 0.
        stop_weight_grad: Whether the weights are constants.
        clamp: Floor of the probabilities in logarithms.
        reduction: How terms become one number.
    """

    def __init__(
        self,
        gamma_neg: float = 4.0,
        gamma_pos: float = 0.0,
        clip: float | None = 0.05,
        *,
        stop_weight_grad: bool = True,
        clamp: float = 0.0,
        reduction: Reduction = "batchmean",
    ) -> None:
        super().__init__()
        self.how: dict[str, Any] = {"gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "clip": clip}
        self.how |= {"stop_weight_grad": stop_weight_grad, "clamp": clamp, "reduction": reduction}

    def forward(self, logits: Logits, labels: Labels) -> Float[Tensor, ""]:
        """The loss of a batch."""
        return asymmetric_loss(logits, labels, **self.how)


def reduced(terms: Float[Tensor, "sample classes"], reduction: Reduction) -> Float[Tensor, ""]:
    """One number from the terms of all samples and classes."""
    if reduction not in get_args(Reduction):
        raise unknown("reduction", str(reduction), get_args(Reduction))
    if reduction == "mean":
        return terms.mean()
    return terms.sum() / (max(1, len(terms)) if reduction == "batchmean" else 1)


def _power(log_base: Tensor, exponent: float) -> Tensor:
    """A power of a probability whose logarithm is known: finite, with a finite gradient, for every exponent."""
    return (exponent * log_base).exp()


def _shifted(logits: Tensor, shift: float) -> Tensor:
    """p_m = max(p − c, 0), with no gradient where it is zero."""
    share = logits.sigmoid()
    return torch.where(share > shift, share - shift, 0.0)


def _shifted_power(logits: Tensor, shift: float, exponent: float) -> Tensor:
    """p_m^γ; one everywhere if γ is zero."""
    if not shift or not exponent:
        return _power(F.logsigmoid(logits), exponent)
    share = _shifted(logits, shift)
    there = share > 0  # the power is taken only where its gradient is finite, also if γ < 1
    return torch.where(there, torch.where(there, share, 1.0).pow(exponent), 0.0)


def _checked(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and labels as numbers of one precision.

    Raises:
        InputError: They are of different shapes, or a label is neither 0 nor 1.
    """
    if logits.shape != labels.shape:
        raise InputError(
            f"scores have shape {tuple(logits.shape)}, but labels {tuple(labels.shape)}. Give a label for each score."
        )
    if labels.dtype != torch.bool and not bool(((labels == 0) | (labels == 1)).all()):
        odd = labels[(labels != 0) & (labels != 1)][0]
        raise InputError(f"a label is {float(odd):g}; give 0 or 1.")
    logits = at_least_float32(logits)
    return logits, labels.to(logits.dtype)
