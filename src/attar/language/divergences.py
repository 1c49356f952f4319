"""How far a student's next-token distribution q lies from the teacher's p: values, and their slopes in closed form.

Every function here takes a few tokens' distributions and gives, per token, the divergence D and dD/dlog q of an
unnormalised q, up to a multiple of q. The softmax under q turns such a slope h into the gradient in the logits, which
is h - q Σh: a multiple of q drops out of it. All are 0 where q = p.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.settings import Range, Settings

Words = Float[Tensor, "token word"]
Tokens = Float[Tensor, " token"]
Found = tuple[Tokens, Words]
Measure = Callable[[Words, Words, Words, Words], Found]
"""From log p, p, log q and q to the divergence and its slope."""


@dataclass(frozen=True, kw_only=True)
class Objective(Settings):
    """Settings of the token-level loss: the labels, and the divergence from the teacher."""

    label_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the cross-entropy with the labels, which are the references."""
    teacher_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the teacher's answers: the divergence from its distribution, token by token."""
    corpus_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the cross-entropy on further text (--corpus), which prevents forgetting, as in DistiLLM and MiniLLM
    (0.5)."""

    divergence: Literal[
        "none", "forward", "reverse", "symmetric", "jsd", "tvd", "skew-forward", "skew-reverse", "policy"
    ] = "forward"
    """Divergence from the teacher. none: no divergence, only the references (supervised fine-tuning). forward: KL(p ‖
    q). reverse: KL(q ‖ p). policy: MiniLLM's policy gradient of the reverse divergence."""
    jsd_beta: Annotated[float, Range(0, 1)] = 0.5
    """β of the generalised Jensen-Shannon divergence: forward towards 0, reverse towards 1. DistiLLM's code uses
    0.1."""
    reverse_share: Annotated[float, Range(0, 1)] = 0.9
    """Share of the reverse divergence in the symmetric divergence."""
    skew: Annotated[float, Range(0, 1)] = 0.1
    """λ of the skew divergences: the share of the first distribution that is mixed into the second."""
    temperature: Annotated[float, Range(0.01)] = 1.0
    """Temperature that softens answers."""

    moved = MappingProxyType({"beta": "jsd_beta"})

    @property
    def measure(self) -> Measure:
        """The function."""
        assert self.divergence not in ("none", "policy"), "these compare no distributions"
        if self.divergence == "jsd":
            return partial(jensen_shannon, beta=self.jsd_beta)
        if self.divergence == "symmetric":
            return partial(symmetric, reverse_share=self.reverse_share)
        if self.divergence in ("skew-forward", "skew-reverse"):
            return partial(skew_forward if self.divergence == "skew-forward" else skew_reverse, skew=self.skew)
        return {"forward": forward_kl, "reverse": reverse_kl, "tvd": total_variation}[self.divergence]


def forward_kl(log_p: Words, p: Words, log_q: Words, q: Words) -> Found:
    """KL(p ‖ q) = Σ p (log p - log q)."""
    return weighted(p, log_p - log_q).sum(dim=1), -p


def reverse_kl(log_p: Words, p: Words, log_q: Words, q: Words) -> Found:
    """KL(q ‖ p) = Σ q (log q - log p)."""
    slope = weighted(q, log_q - log_p)
    return slope.sum(dim=1), slope


def symmetric(log_p: Words, p: Words, log_q: Words, q: Words, *, reverse_share: float) -> Found:
    """(1 - λ) KL(p ‖ q) + λ KL(q ‖ p)."""
    forward, reverse = forward_kl(log_p, p, log_q, q), reverse_kl(log_p, p, log_q, q)
    value, slope = (torch.lerp(one, other, reverse_share) for one, other in zip(forward, reverse, strict=True))
    return value, slope


def jensen_shannon(log_p: Words, p: Words, log_q: Words, q: Words, *, beta: float) -> Found:
    """Generalised Jensen-Shannon divergence: β KL(p ‖ m) + (1 - β) KL(q ‖ m), m = β p + (1 - β) q.

    It vanishes at both ends of β; divided by β, or by 1 - β, it tends to the forward and to the reverse divergence
    there, which take its place at β = 0 and β = 1.
    """
    if beta in (0, 1):
        return (forward_kl if beta == 0 else reverse_kl)(log_p, p, log_q, q)
    log_m = mixture(log_p, log_q, beta)
    slope = (1 - beta) * weighted(q, log_q - log_m)
    return beta * weighted(p, log_p - log_m).sum(dim=1) + slope.sum(dim=1), slope


def total_variation(log_p: Words, p: Words, log_q: Words, q: Words) -> Found:
    """Total variation distance: Σ |p - q| / 2, from 0 to 1."""
    gap = q - p
    return gap.abs().sum(dim=1) / 2, gap.sign_().mul_(q).div_(2)


def skew_forward(log_p: Words, p: Words, log_q: Words, q: Words, *, skew: float) -> Found:
    """KL(p ‖ λ p + (1 - λ) q), at most -log λ."""
    log_m = mixture(log_p, log_q, skew)
    slope = weighted(q, (log_p - log_m).exp()).mul_(skew - 1)
    return weighted(p, log_p - log_m).sum(dim=1), slope


def skew_reverse(log_p: Words, p: Words, log_q: Words, q: Words, *, skew: float) -> Found:
    """KL(q ‖ (1 - λ) p + λ q), at most -log λ."""
    gap = log_q - mixture(log_q, log_p, skew)
    value = weighted(q, gap)
    return value.sum(dim=1), value - weighted(q, gap.exp()).mul_(skew)


def mixture(log_first: Words, log_second: Words, share: float) -> Words:
    """The logarithm of share · first + (1 - share) · second."""
    if share in (0, 1):
        return log_first if share == 1 else log_second
    return torch.logaddexp(log_first + math.log(share), log_second + math.log1p(-share))


def weighted(weight: Words, value: Words) -> Words:
    """Their product, and 0 where the weight is 0, however infinite the value."""
    return torch.where(weight != 0, weight * value, 0.0)
