"""What calibrators share that treat each class against the rest: log-odds, and scores as probabilities."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.calibration.calibration import Logits

Numbers = Float[Tensor, " number"]
Corners = Float[Tensor, " corner"]

EPSILON = 1e-9
"""Share of the classifier's own probabilities that is added to the scores before they are divided by their sum."""
LOWEST = -80.0
"""The smallest log-probability, so that its exponential is above 0 in float32."""


def log_odds(logits: Logits) -> Logits:
    """Log-odds log p_k - log(1 - p_k) of each class, exact also near 1: z_k - logsumexp of the other logits."""
    log_p = F.log_softmax(logits, dim=1).clamp_min(LOWEST)
    top = logits.argmax(dim=1, keepdim=True)
    others = logits.scatter(1, top, -torch.inf).logsumexp(dim=1, keepdim=True)
    sure = (logits.gather(1, top) - others).clamp_max(-LOWEST)
    # Every other class has at most half of the probability.
    log_rest = torch.log1p(-log_p.exp().scatter(1, top, 0.0))
    return (log_p - log_rest).scatter(1, top, sure)


def normalised(scores: Logits, logits: Logits, epsilon: float = EPSILON) -> Logits:
    """Log-probabilities from scores of classes that need not sum to 1: log((q + ε p) / Σ (q + ε p)).

    The small share of p keeps the order of classes whose scores are equal, and rows without any score.
    """
    p = F.log_softmax(logits, dim=1).clamp_min(LOWEST).exp()
    mixed = (scores + epsilon * p).clamp_min(torch.finfo(p.dtype).tiny)
    return (mixed / mixed.sum(dim=1, keepdim=True)).log()


def interpolated(at: Numbers, places: Corners, values: Corners) -> Numbers:
    """Linear interpolation between rising places; outside them the values at the ends are kept."""
    if len(places) == 1:
        return values.expand(len(at))
    right = torch.searchsorted(places, at.detach().contiguous()).clamp(1, len(places) - 1)
    low, high = places[right - 1], places[right]
    share = ((at - low) / (high - low).clamp_min(torch.finfo(at.dtype).tiny)).clamp(0, 1)
    return torch.lerp(values[right - 1], values[right], share)


def with_confidence(logits: Logits, confidence: Float[Tensor, " sample"]) -> Logits:
    """Log-probabilities whose largest entry is the confidence, with the predictions of the logits.

    Where confidence falls, the probabilities are mixed with the uniform distribution, and where it rises, with
    certainty. It cannot fall below 1/K.
    """
    classes = logits.shape[1]
    p = F.log_softmax(logits, dim=1).clamp_min(LOWEST).exp()
    p = p / p.sum(dim=1, keepdim=True)
    top = p.amax(dim=1)
    lowest = (1 + EPSILON) / classes
    wanted = confidence.clamp(lowest, 1 - EPSILON)
    falls = wanted < top
    share = torch.where(
        falls,
        (wanted - 1 / classes) / (top - 1 / classes).clamp_min(EPSILON),
        (1 - wanted) / (1 - top).clamp_min(1e-30),
    )
    share = share.clamp(0, 1)[:, None]
    sure = F.one_hot(logits.argmax(dim=1), classes).to(p)
    other = torch.where(falls[:, None], torch.full_like(p, 1 / classes), sure)
    return torch.lerp(other, p, share).clamp_min(1e-35).log()
