"""Beta calibration: the probability of each class goes through a curve of three parameters.

Prefer it to Platt scaling for scores that are probabilities already: the sigmoid cannot leave them as they are, as this
curve can, and bends those of naive Bayes and boosting the wrong way. More classes are calibrated one against the
rest. It may change predictions.
Kull, Silva Filho and Flach, Beta calibration: a well-founded and easily implemented improvement on logistic calibration
for binary classifiers, AISTATS 2017.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from attar.classifiers.calibration.calibration import Calibration, Labels, Learned, Logits, Views
from attar.classifiers.calibration.onevsrest import log_odds, normalised

LIMIT = 30.0
"""Size at which log-odds are cut, so that one sample does not decide the curve."""
BOUND = 100.0
"""Largest a, b and size of c, at which the curve of a separated class ends."""


@dataclass(frozen=True, kw_only=True)
class BetaCalibration(Calibration):
    """A beta curve of the probability of each class (Kull, Silva Filho and Flach, AISTATS 2017).

    q_k = σ(a_k log p_k - b_k log(1 - p_k) + c_k), a, b ≥ 0; p' = q / Σ q.
    """

    parameters: Literal["abc", "ac", "ab"] = "abc"
    """Which parameters each class has: all three, a = b (a sigmoid of the log-odds), or c = 0."""

    name = "beta"
    keeps_order = False

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """The parameters a, b and c of each class."""
        inputs = logs_of(logits)
        curves = [curve_of(inputs[:, k], labels == k, self.parameters) for k in range(logits.shape[1])]
        return {"curve": torch.stack(curves)}

    def calibrated(self, learned: Learned, logits: Logits, views: Views) -> Logits:
        """The logarithm of the curves' values over their sum."""
        curve = learned["curve"]
        return normalised(((logs_of(logits) * curve[:, :2]).sum(dim=2) + curve[:, 2]).sigmoid(), logits)


def logs_of(logits: Logits) -> Tensor:
    """The features log p and -log(1 - p) of each sample and class, `[sample, classes, 2]`."""
    odds = log_odds(logits).clamp(-LIMIT, LIMIT)
    logsigmoid = torch.nn.functional.logsigmoid
    return torch.stack([logsigmoid(odds), -logsigmoid(-odds)], dim=2)


def curve_of(inputs: Tensor, positive: Tensor, parameters: str = "abc") -> Tensor:
    """a, b ≥ 0 and c at which the binary NLL of σ(a log p - b log(1 - p) + c) is smallest, from the identity on.

    Args:
        inputs: log p and -log(1 - p) of each sample.
        positive: Whether each sample is of the class.
        parameters: abc, ac (a = b) or ab (c = 0).
    """
    whole = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1).numpy()
    tied = {"abc": np.eye(3), "ac": np.array([[1.0, 1, 0], [0, 0, 1]]), "ab": np.eye(3)[:2]}[parameters]
    design, target = whole @ tied.T, positive.numpy().astype(float)

    def at(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = design @ weights
        value = np.logaddexp(0, scores).mean() - (target * scores).mean()
        return float(value), design.T @ (expit(scores) - target) / len(target)

    bounds = {
        "abc": [(0, BOUND), (0, BOUND), (-BOUND, BOUND)],
        "ac": [(0, BOUND), (-BOUND, BOUND)],
        "ab": [(0, BOUND)] * 2,
    }
    start = {"abc": [1.0, 1, 0], "ac": [1.0, 0], "ab": [1.0, 1]}[parameters]
    options = {"ftol": 0.0, "gtol": 1e-9, "maxiter": 500, "maxfun": 2000}
    found = minimize(at, np.array(start), jac=True, method="L-BFGS-B", bounds=bounds[parameters], options=options)
    return torch.from_numpy(tied.T @ found.x)
