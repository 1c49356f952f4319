"""Platt scaling: the log-odds of each class become a probability by a sigmoid with a slope and a shift.

The classic for two classes and few rows, and for scores that are no probabilities, such as those of a support vector
machine. More classes are calibrated one against the rest, and their probabilities divided by their sum. It may change
predictions.
Platt, Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods, Advances in
Large Margin Classifiers, 1999. The iteration: Lin, Lin and Weng, A note on Platt's probabilistic outputs for support
vector machines, Machine Learning 68, 2007.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.calibration.calibration import Calibration, Labels, Learned, Logits, Views
from attar.classifiers.calibration.onevsrest import log_odds, normalised

PASSES = 100
SLOPE = 1e-10
"""Largest derivative at which the iteration stops."""
HALVINGS = 40


@dataclass(frozen=True, kw_only=True)
class PlattScaling(Calibration):
    """A sigmoid of the log-odds of each class (Platt, in Advances in Large Margin Classifiers, MIT Press 1999).

    q_k = σ(a_k s_k + b_k), s_k = log p_k - log(1 - p_k); p' = q / Σ q.
    """

    smoothed: bool = True
    """Whether targets are (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2), as Platt has them, and not 1 and 0. This keeps the
    slope finite where a class is separated."""

    name = "platt"
    keeps_order = False

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """Slopes and shifts of the classes."""
        odds = log_odds(logits)
        found = [sigmoid_of(odds[:, k], labels == k, smoothed=self.smoothed) for k in range(logits.shape[1])]
        slopes, shifts = torch.tensor(found, dtype=torch.float64).T
        return {"slope": slopes.contiguous(), "shift": shifts.contiguous()}

    def calibrated(self, learned: Learned, logits: Logits, views: Views) -> Logits:
        """The logarithm of the sigmoids over their sum."""
        return normalised((log_odds(logits) * learned["slope"] + learned["shift"]).sigmoid(), logits)

    def told(self, learned: Learned) -> dict[str, float]:
        """The mean slope."""
        return {"mean slope": float(learned["slope"].mean())}


def sigmoid_of(scores: Float[Tensor, " sample"], positive: Tensor, *, smoothed: bool = True) -> tuple[float, float]:
    """Slope a and shift b at which -Σ t log σ(a s + b) + (1 - t) log(1 - σ(a s + b)) is smallest.

    Newton's iteration with halved steps on a convex loss.

    Args:
        scores: The score s of each sample.
        positive: Whether each sample is of the class.
        smoothed: Whether targets t are Platt's, and not 1 and 0.
    """
    target = positive.to(scores)
    count = float(target.sum())
    if smoothed:
        target = torch.where(positive, (count + 1) / (count + 2), 1 / (len(scores) - count + 2)).to(scores)
    inputs = torch.stack([scores, torch.ones_like(scores)], dim=1)
    prior = (target.mean() / (1 - target.mean()).clamp_min(1e-12)).clamp(1e-12, 1e12).log()
    weights = torch.stack([torch.zeros_like(prior), prior])
    value = _loss(weights, inputs, target)
    for _ in range(PASSES):
        p = (inputs @ weights).sigmoid()
        slope = inputs.T @ (p - target) / len(scores)
        if float(slope.abs().max()) <= SLOPE:
            break
        curvature = (inputs * (p * (1 - p))[:, None]).T @ inputs / len(scores)
        step = torch.linalg.solve(curvature + 1e-12 * torch.eye(2, dtype=scores.dtype), slope)
        share = 1.0
        for _ in range(HALVINGS):
            if float(_loss(weights - share * step, inputs, target)) <= float(value):
                break
            share /= 2
        else:
            break
        weights = weights - share * step
        value = _loss(weights, inputs, target)
    return float(weights[0]), float(weights[1])


def _loss(weights: Tensor, inputs: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.binary_cross_entropy_with_logits(inputs @ weights, target)
