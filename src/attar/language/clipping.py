"""DAC-KL: forward KL from the dense part of the teacher's distribution, its ends found by a small network.

With p_(1) ≥ p_(2) ≥ ... the teacher's probabilities and c_k = Σ_{j<k} p_(j) + p_(k) / 2 their mid-rank cumulative mass,

    M_k = σ((u - c_k) / ε) σ((c_k - l) / ε),    p̃ = M p / Σ M p,    L = Σ p̃ (log p̃ - log q).

q is not renormalised over M: whatever M keeps, L costs at least what the student gives to the rest. The label and the
teacher's first choice are always kept. Fixed masks (the k most probable tokens, or those that make up a mass) take the
same way. Liu et al., Multi-Granularity Semantic Revision for Large Language Model Distillation, arXiv:2407.10068; size,
inputs and softness of the network are not given there, and are this file's.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.settings import Range, Settings
from attar.language.divergences import Tokens, Words, weighted

Bounds = Float[Tensor, "token 2"]
"""The upper quantile u and the lower quantile l."""

LOWEST = -50.0
"""What a logarithm is cut to before the network sees it, so that a token that cannot come is still a number."""


@dataclass(frozen=True, kw_only=True)
class Clipping(Settings):
    """Settings for the part of the teacher's distribution that the student learns from."""

    teacher_clip: Literal["none", "top-k", "top-p", "learned"] = "none"
    """Part of the teacher's distribution that the student learns from. none: all of it. top-k, top-p: the most probable
    tokens by number or by mass. learned: the tokens between two quantiles that a network predicts."""
    top_k: Annotated[int, Range(1)] = 64
    """Number of tokens that top-k keeps."""
    clip_mass: Annotated[float, Range(0, 1)] = 0.95
    """Probability mass that top-p keeps. It is also the start of the learned upper quantile."""
    softness: Annotated[float, Range(1e-6)] = 0.02
    """Softness ε of the learned mask: the distance from a quantile over which it falls off."""
    hard_clip: bool = False
    """Whether the learned mask is hard, with the soft mask's gradient."""
    clip_head: Annotated[float, Range(0, 1)] = 0.2
    """Largest ratio of the lower quantile l to the upper quantile u. It limits how many of the most probable tokens can
    be cut."""
    seen: Annotated[int, Range(1)] = 64
    """Number m of the teacher's most probable tokens whose log-probabilities in both models the network sees."""
    quantile_width: Annotated[int, Range(1)] = 128
    """Number of hidden units of the quantile network."""
    quantile_lr: Annotated[float, Range(0)] = 1e-3
    """Step size of the quantile network."""
    mass_floor: Annotated[float, Range(0, 1)] = 0.5
    """Smallest kept mass without a penalty."""
    floor_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the penalty, per unit of mass below --mass-floor."""

    moved = MappingProxyType(
        {
            "clip": "teacher_clip",
            "hard": "hard_clip",
            "head": "clip_head",
            "clip_width": "quantile_width",
            "clip_lr": "quantile_lr",
        }
    )


class QuantileNetwork(nn.Sequential):
    """f_sub: from what is seen of a token's two distributions to its quantiles; thrown away after training.

    Args:
        clipping: What of the distributions is seen, and how wide the network is.
        words: Size of the vocabulary.
    """

    def __init__(self, clipping: Clipping, words: int) -> None:
        inputs = 2 * min(clipping.seen, words) + 2
        super().__init__(
            nn.LayerNorm(inputs),
            nn.Linear(inputs, clipping.quantile_width),
            nn.GELU(),
            nn.Linear(clipping.quantile_width, 2),
        )
        self.head_share = clipping.clip_head
        start = min(max(clipping.clip_mass, 1e-3), 1 - 1e-3)
        with torch.no_grad():
            last = self[3]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(0.1)
            last.bias.copy_(torch.tensor([math.log(start / (1 - start)), -4.0]))

    def forward(self, features: Float[Tensor, "token feature"]) -> Bounds:
        """The quantiles u = σ(o_1) and l = clip_head · u · σ(o_2), so that l < u."""
        first, second = super().forward(features).sigmoid().unbind(dim=1)
        return torch.stack([first, self.head_share * first * second], dim=1)


def features(log_p: Words, log_q: Words, seen: int) -> Float[Tensor, "token feature"]:
    """What the network sees: the teacher's m most probable tokens in both models, and both entropies."""
    best, order = log_p.topk(min(seen, log_p.shape[1]), dim=1)
    entropies = torch.stack([-weighted(x.exp(), x).sum(dim=1) for x in (log_p, log_q)], dim=1)
    return torch.cat([best, log_q.gather(1, order), entropies], dim=1).clamp_(min=LOWEST)


def mid_ranks(p: Words) -> Words:
    """c_k, in the order of the vocabulary: the mass of all more probable tokens and half of a token's own."""
    ordered, order = p.sort(dim=1, descending=True, stable=True)
    return torch.empty_like(p).scatter_(1, order, ordered.cumsum(dim=1).sub_(ordered / 2))


@dataclass(frozen=True)
class Clipped:
    """A teacher's distribution within its bounds."""

    log_p: Words
    p: Words
    mass: Tokens
    """Kept of the whole."""
    slopes: tuple[Words, Words] | None = None
    """dM/du and dM/dl, where the bounds are learned."""
    soft: "Clipped | None" = None
    """What the soft mask keeps, where the hard one is used."""


def clipped(
    log_p: Words, p: Words, targets: Int[Tensor, " token"], clipping: Clipping, bounds: Bounds | None
) -> Clipped:
    """The distribution p̃ that is learned from.

    Args:
        log_p: The teacher's log-probabilities.
        p: The same, exponentiated.
        targets: The label of each token, always kept.
        clipping: The mask's settings; not `none`.
        bounds: Quantiles, for the learned mask.
    """
    kept = p >= p.amax(dim=1, keepdim=True)
    kept.scatter_(1, targets.unsqueeze(1), True)
    if clipping.teacher_clip == "learned":
        assert bounds is not None
        return _within_quantiles(log_p, p, kept, clipping, bounds)
    if clipping.teacher_clip == "top-k":
        best = p.topk(min(clipping.top_k, p.shape[1]), dim=1).indices
        kept.scatter_(1, best, True)
    else:
        kept |= mid_ranks(p).sub_(p / 2) < clipping.clip_mass
    return Clipped(*_renormalised(log_p.masked_fill(~kept, -math.inf)))


def _within_quantiles(log_p: Words, p: Words, kept: Tensor, clipping: Clipping, bounds: Bounds) -> Clipped:
    u, low = bounds.detach().to(p.dtype).unsqueeze(2).unbind(dim=1)
    ranks = mid_ranks(p)
    above, below = (u - ranks) / clipping.softness, (ranks - low) / clipping.softness
    log_mask = (F.logsigmoid(above) + F.logsigmoid(below)).masked_fill_(kept, 0.0)
    steep = log_mask.exp().div_(clipping.softness).masked_fill_(kept, 0.0)
    slopes = steep * torch.sigmoid(-above), -steep * torch.sigmoid(-below)
    soft = Clipped(*_renormalised(log_p + log_mask), slopes)
    if not clipping.hard_clip:
        return soft
    inside = kept | ((ranks >= low) & (ranks <= u))
    return Clipped(*_renormalised(log_p.masked_fill(~inside, -math.inf)), soft=soft)


def _renormalised(log_kept: Words) -> tuple[Words, Words, Tokens]:
    log_mass = log_kept.logsumexp(dim=1)
    log_kept = log_kept - log_mass.unsqueeze(1)
    return log_kept, log_kept.exp(), log_mass.exp()


def bound_slopes(
    found: Clipped, p: Words, log_q: Words, weight: Tokens, clipping: Clipping, floor_weight: float
) -> Bounds:
    """The gradient of weight · L + floor_weight · relu(mass_floor - mass) in u and l.

    dL/dM_k = p_k / mass · (log p̃_k - log q_k - L). A hard mask has the gradient of the soft one.
    """
    soft = found.soft or found
    assert soft.slopes is not None
    gap = soft.log_p - log_q
    gap -= weighted(soft.p, gap).sum(dim=1, keepdim=True)
    by_mask = weighted(p, gap).mul_((weight / soft.mass).unsqueeze(1))
    by_mask -= floor_weight * (soft.mass < clipping.mass_floor).to(p.dtype).unsqueeze(1) * p
    return torch.stack([weighted(slope, by_mask).sum(dim=1) for slope in soft.slopes], dim=1)
