"""Log-normalisers and temperatures of the global contrastive loss (`global_contrast`), as functions of tensors."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

Logits = Float[Tensor, "*side anchor negative"]
"""Scores of negatives over the anchor's temperature; -∞ for a candidate that is none."""
PerAnchor = Float[Tensor, "*side anchor"]

LARGEST_STEP = 0.25
"""Share of itself by which a temperature changes at most in one visit (a choice). After a jump of τ from .005 to .02
all weights are zero in single precision, for hundreds of visits."""
HALVINGS = 100
"""Halvings of the bisection."""


def log_mean_exp(logits: Logits) -> PerAnchor:
    """The logarithm of mean_j exp(logits_ij), over the negatives of each anchor."""
    return logits.logsumexp(dim=-1) - count_of(logits).log()


def log_normaliser(before: PerAnchor, now: PerAnchor, gamma: float) -> PerAnchor:
    """log((1 - γ) e^before + γ e^now), and `now` alone on a first visit.

    Args:
        before: What is remembered; -∞ for a sample that was not seen.
        now: The logarithm of the batch's mean.
        gamma: γ, from above 0 to 1.
    """
    if gamma >= 1:
        return now
    averaged = torch.logaddexp(before + math.log1p(-gamma), now + math.log(gamma))
    return torch.where(before.isneginf(), now, averaged)


def weights(logits: Logits, log_s: PerAnchor) -> Logits:
    """Weights q = exp(logits - log s), at most m / γ; 0 for a candidate that is no negative."""
    return (logits - log_s[..., None]).exp()


def temperature_gradient(logits: Logits, log_s: PerAnchor, rho: float) -> PerAnchor:
    """d/dτ of τ log s + τ ρ: log s + ρ - mean_j q_ij logits_ij. It is ρ - KL(q, uniform) if s is the batch's own mean.

    Args:
        logits: h / τ.
        log_s: The log-normaliser of each anchor.
        rho: ρ, the bound on the divergence from uniform weights.
    """
    q = weights(logits, log_s)
    expected = torch.where(logits.isneginf(), torch.zeros_like(q), q * logits).sum(dim=-1) / count_of(logits)
    return log_s + rho - expected


def divergence(scores: Logits, temperature: PerAnchor) -> PerAnchor:
    """KL(softmax(h / τ), uniform), from 0 at large τ to the logarithm of the number of negatives at small ones."""
    log_p = (scores / temperature[..., None]).log_softmax(dim=-1)
    entropy = -torch.where(scores.isneginf(), torch.zeros_like(log_p), log_p.exp() * log_p).sum(dim=-1)
    return count_of(scores).log() - entropy


def root_temperature(scores: Logits, rho: float, lowest: float = 1e-4, highest: float = 1e4) -> PerAnchor:
    """The τ at which d/dτ is zero, KL(softmax(h / τ), uniform) = ρ, for each anchor, by bisection of log τ.

    The loss is convex in τ, so that there is one. An end of the range is given where the root lies beyond it: the
    lowest where ρ is the logarithm of the number of negatives or more, the highest where ρ is 0.

    Args:
        scores: h, or similarities: a constant added to an anchor's row changes nothing.
        rho: ρ, the bound on the divergence.
        lowest: Smallest τ.
        highest: Largest τ.
    """
    low = torch.full_like(scores[..., 0], math.log(lowest))
    high = torch.full_like(low, math.log(highest))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        too_sharp = divergence(scores, middle.exp()) > rho
        low, high = torch.where(too_sharp, middle, low), torch.where(too_sharp, high, middle)
    return ((low + high) / 2).exp()


def moved_temperature(
    tau: PerAnchor,
    momentum: PerAnchor,
    gradient: PerAnchor,
    *,
    eta: float,
    beta: float,
    between: tuple[float, float],
    largest_step: float | None = LARGEST_STEP,
) -> tuple[PerAnchor, PerAnchor]:
    """One step of temperatures, within their range: u ← (1 - β) u + β G, τ ← τ - η u. The new τ and u.

    Args:
        tau: τ of each anchor.
        momentum: u, the moving average of its gradient.
        gradient: G.
        eta: Step size η.
        beta: Share β of the new gradient.
        between: Smallest and largest τ.
        largest_step: Share of itself by which τ changes at most; None for no limit.
    """
    momentum = torch.lerp(momentum, gradient, beta)
    step = eta * momentum
    if largest_step is not None:
        step = torch.minimum(torch.maximum(step, -largest_step * tau), largest_step * tau)
    return (tau - step).clamp(*between), momentum


def falling_rate(gamma: float, progress: float, decay: float = 0.5) -> float:
    """γ along half a cosine, from 1 at the start to `gamma` at a share of the run (half is recommended)."""
    if progress >= decay:
        return gamma
    return gamma + (1 - gamma) * 0.5 * (1 + math.cos(math.pi * progress / decay))


def count_of(logits: Logits) -> PerAnchor:
    """The number of negatives of each anchor."""
    return logits.isneginf().logical_not().sum(dim=-1).to(logits.dtype)
