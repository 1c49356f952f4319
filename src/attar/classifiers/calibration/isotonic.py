"""Isotonic regression: the probability goes through the best rising curve, which is a staircase.

It has no shape to be wrong about, and needs a thousand rows or more. `isotonic` has a curve for each class against the
rest and may change predictions. `irm` has one curve for the probabilities of all classes, and keeps them.
Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability estimates, KDD 2002.
One curve for all: Zhang, Kailkhura and Han, Mix-n-Match: Ensemble and Compositional Methods for Uncertainty Calibration
in Deep Learning, ICML 2020, arXiv:2003.07329. The released code does not divide by the sum; here a small share of the
classifier's own probabilities is added, which keeps the order inside a stair, and rows sum to 1.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from attar.classifiers.calibration.calibration import Calibration, Labels, Learned, Logits, Views
from attar.classifiers.calibration.onevsrest import EPSILON, interpolated, normalised
from attar.core.settings import Range


@dataclass(frozen=True, kw_only=True)
class IsotonicCalibration(Calibration):
    """A rising curve for each class against the rest (Zadrozny and Elkan, KDD 2002)."""

    epsilon: Annotated[float, Range(0)] = EPSILON
    """Share ε of the classifier's probabilities that is added to the curves. It orders equal values."""

    name = "isotonic"
    keeps_order = False

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """The corners of the curves, one curve after the other, and the number of each one's corners."""
        p, right = logits.softmax(dim=1), F.one_hot(labels, logits.shape[1]).to(logits)
        return joined([corners(p[:, k], right[:, k]) for k in range(logits.shape[1])])

    def calibrated(self, learned: Learned, logits: Logits, views: Views) -> Logits:
        """The logarithm of the curves' values over their sum."""
        return normalised(self.scores(learned, logits), logits, self.epsilon)

    def scores(self, learned: Learned, logits: Logits) -> Logits:
        """The curves' values, which need not sum to 1."""
        counts = learned["counts"].tolist()
        curves = zip(learned["places"].split(counts), learned["values"].split(counts), strict=True)
        p = logits.softmax(dim=1)
        return torch.stack([interpolated(p[:, k], *curve) for k, curve in enumerate(curves)], dim=1)


@dataclass(frozen=True, kw_only=True)
class SharedIsotonic(IsotonicCalibration):
    """One rising curve for the probabilities of all classes (Zhang, Kailkhura and Han, ICML 2020, arXiv:2003.07329)."""

    name = "irm"
    keeps_order = True

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """The corners of the curve."""
        right = F.one_hot(labels, logits.shape[1]).to(logits)
        return joined([corners(logits.softmax(dim=1).flatten(), right.flatten())])

    def scores(self, learned: Learned, logits: Logits) -> Logits:
        """The curve's values, which need not sum to 1."""
        p = logits.softmax(dim=1)
        return interpolated(p.flatten(), learned["places"], learned["values"]).view_as(p)


def corners(scores: Float[Tensor, " n"], target: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """Places and values of the rising curve with the least squared error, which is linear between its corners."""
    fitted = IsotonicRegression(out_of_bounds="clip").fit(scores.numpy(), target.numpy())
    return torch.tensor(fitted.X_thresholds_), torch.tensor(fitted.y_thresholds_)


def joined(curves: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Curves of different lengths as three tensors."""
    places, values = zip(*curves, strict=True)
    return {
        "places": torch.cat(places),
        "values": torch.cat(values),
        "counts": torch.tensor([len(place) for place in places]),
    }
