"""Spline calibration: confidence is corrected by the slope of a smooth curve of accumulated errors.

It has no bins, and few parameters. It corrects the confidence in the prediction; the other probabilities move with it,
and predictions stay.
Gupta, Rahimi, Ajanthan, Mensink, Sminchisescu and Hartley, Calibration of Neural Networks using Splines, ICLR 2021,
arXiv:2006.12800.
The released code exchanges the two weights of its interpolation, which moves confidences by up to .06. Here they are in
their places.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from torch import Tensor

from attar.classifiers.calibration.calibration import Calibration, Labels, Learned, Logits, Views, correct
from attar.classifiers.calibration.onevsrest import interpolated, with_confidence
from attar.core.errors import InputError
from attar.core.settings import Range

Scores = Float[Tensor, " sample"]


@dataclass(frozen=True, kw_only=True)
class SplineCalibration(Calibration):
    """Correct confidence by the slope of a spline (Gupta et al., ICLR 2021, arXiv:2006.12800).

    r' = r + h'(t), h a natural cubic spline of the errors Σ_{i≤j} (c_i - r_i) / n, in the order of r, at t from 0 to 1.
    """

    knots: Annotated[int, Range(3)] = 6
    """Number of knots of the spline, evenly spaced."""

    name = "spline"

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """The sorted confidences, and what each becomes.

        Raises:
            InputError: There are fewer rows than knots.
        """
        if len(logits) < self.knots:
            raise InputError(f"{len(logits)} calibration rows are too few for {self.knots} knots. Give more rows.")
        scores, order = logits.softmax(dim=1).amax(dim=1).sort(stable=True)
        corrected = recalibrated(scores, correct(logits, labels)[order], self.knots)
        places, groups, counts = scores.unique(return_inverse=True, return_counts=True)
        values = torch.zeros_like(places).scatter_add_(0, groups, corrected) / counts
        return {"places": places, "values": values}

    def calibrated(self, learned: Learned, logits: Logits, views: Views) -> Logits:
        """Log-probabilities with the corrected confidence."""
        return with_confidence(logits, self.confidence(learned, logits.softmax(dim=1).amax(dim=1)))

    def confidence(self, learned: Learned, scores: Scores) -> Scores:
        """Corrected confidences."""
        return interpolated(scores, learned["places"], learned["values"]).clamp(0, 1)


def knot_values(scores: Scores, right: Scores, knots: int = 6) -> np.ndarray:
    """Values at the knots of the natural spline that fits the accumulated errors of sorted scores by least squares."""
    t = np.linspace(0, 1, len(scores))
    errors = (right - scores).cumsum(0).numpy() / len(scores)
    basis = CubicSpline(np.linspace(0, 1, knots), np.eye(knots), bc_type="natural")(t)
    return np.linalg.lstsq(basis, errors, rcond=None)[0]


def recalibrated(scores: Scores, right: Scores, knots: int = 6) -> Scores:
    """Corrected confidences r + h'(t) of sorted scores r.

    Args:
        scores: Sorted confidences.
        right: 1 where the prediction is right, otherwise 0.
        knots: Number of knots.
    """
    spline = CubicSpline(np.linspace(0, 1, knots), knot_values(scores, right, knots), bc_type="natural")
    return scores + torch.from_numpy(spline(np.linspace(0, 1, len(scores)), 1)).to(scores)
