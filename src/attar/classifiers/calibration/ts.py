"""TS: all logits are divided by one temperature.

Try it first. It is one number, needs few rows, never changes a prediction, and hardly overfits. Whatever it leaves is
for calibrators with more parameters, at a thousand rows or more.
Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599.
The released code minimises by L-BFGS with a step size of .01 and stops early. Here the minimum is found: the negative
log-likelihood is convex in β = 1/T, and a safeguarded Newton iteration needs eight passes or so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor

from attar.classifiers.calibration.calibration import Calibration, Labels, Learned, Logits, Views
from attar.classifiers.calibration.losses import EachLoss, brier, ca_loss, top_label
from attar.core.notes import note

SMALLEST, LARGEST = 0.01, 100.0
"""The temperatures between which the minimum is sought."""
TOLERANCE = 1e-10
"""Size of the derivative in β at which the Newton iteration stops."""
PASSES = 200
GRID = 121
"""Temperatures, evenly spaced on a log scale, at which a loss that is not convex is computed first."""
ROWS = 4096
"""Rows per pass, so that they stay in a cache."""


@dataclass(frozen=True, kw_only=True)
class TemperatureScaling(Calibration):
    """Divide logits by one temperature (Guo, Pleiss, Sun and Weinberger, ICML 2017, arXiv:1706.04599).

    p = softmax(z / T).
    """

    loss: Literal["nll", "brier", "ca", "ca-balanced"] = "nll"
    """Loss whose minimum decides T: the negative log-likelihood; the Brier score of all classes, or of the top class
    (ca); or that with right and wrong predictions weighing the same together (ca-balanced), which is under-confident on
    data like the calibration rows, and better where the classifier is worse."""

    name = "ts"

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """The temperature."""
        return {"temperature": torch.tensor(temperature_by(self.loss, logits, labels), dtype=torch.float64)}

    def calibrated(self, learned: Learned, logits: Logits, views: Views) -> Logits:
        """The log-softmax of the scaled logits."""
        return F.log_softmax(logits / learned["temperature"], dim=1)

    def told(self, learned: Learned) -> dict[str, float]:
        """The temperature."""
        return {"temperature": float(learned["temperature"])}


def temperature_by(loss: str, logits: Logits, labels: Labels) -> float:
    """The temperature at which a loss is smallest: nll, brier, ca or ca-balanced."""
    if loss == "nll":
        return temperature_of(logits, labels)
    if loss == "ca-balanced":
        return searched(lambda scaled: float(ca_loss(scaled, labels, balanced=True)), logits)
    each: EachLoss = brier if loss == "brier" else top_label
    return searched(lambda scaled: float(each(scaled, labels).mean()), logits)


def temperature_of(logits: Logits, labels: Labels) -> float:
    """T at which the mean of -log softmax(z / T)_y is smallest, from .01 to 100.

    Newton's iteration in β = 1/T, inside a bracket that shrinks with every derivative, and bisects it where Newton
    leaves it. It stops at a derivative of 1e-10, mean(E_p[z] - z_y).

    Args:
        logits: The logits; float64 is advised.
        labels: The class of each sample.
    """
    centred = logits - logits.amax(dim=1, keepdim=True)
    wanted = centred.gather(1, labels[:, None]).mean()
    if not bool(centred.gather(1, labels[:, None]).any()) and bool(centred.any()):
        return at_the_end(SMALLEST, "all predictions of the calibration rows are right")
    low, high = 1 / LARGEST, 1 / SMALLEST
    if slopes(low, centred, wanted)[0] >= 0 and bool(centred.any()):
        return at_the_end(LARGEST, "the logits are too large, or say nothing about the labels")
    if slopes(high, centred, wanted)[0] < -TOLERANCE:
        return at_the_end(SMALLEST, "nearly all predictions of the calibration rows are right")
    beta = 1.0
    for _ in range(PASSES):
        slope, curvature = slopes(beta, centred, wanted)
        low, high = (low, beta) if slope > 0 else (beta, high)
        newton = beta - slope / curvature if curvature > 0 else math.inf
        stops = abs(slope) <= TOLERANCE or high - low <= 1e-14 * beta
        beta = newton if low < newton < high else (beta if stops else math.sqrt(low * high))
        if stops:
            break
    return 1 / beta


def slopes(beta: float, logits: Logits, wanted: Float[Tensor, ""]) -> tuple[float, float]:
    """First and second derivative in β of the mean NLL: mean(E_p[z] - z_y), and the mean variance of z under p."""
    mean = variance = 0.0
    for rows in logits.split(ROWS):
        p = (beta * rows).softmax(dim=1)
        weighted = p * rows
        first = weighted.sum(dim=1)
        mean += float(first.sum())
        variance += float((weighted * rows).sum() - first.square().sum())
    return mean / len(logits) - float(wanted), variance / len(logits)


def at_the_end(temperature: float, reason: str) -> float:
    """The temperature at an end of the range, with a warning."""
    note(
        f"{reason}, so no temperature is best; it is set to {temperature:g}. Calibrate on more rows, or on others.",
        stacklevel=2,
    )
    return temperature


def searched(
    loss: Callable[[Logits], float], logits: Logits, smallest: float = SMALLEST, largest: float = LARGEST
) -> float:
    """T at which a loss of the scaled logits is smallest: on a grid, then by a bounded search around its best point.

    Args:
        loss: A function from scaled logits to a number.
        logits: The logits.
        smallest: The smallest T.
        largest: The largest T.
    """
    centred = logits - logits.amax(dim=1, keepdim=True)

    def at(log_t: float) -> float:
        return loss(centred / math.exp(log_t))

    points = torch.linspace(math.log(smallest), math.log(largest), GRID, dtype=torch.float64).tolist()
    values = [at(point) for point in points]
    best = min(range(GRID), key=values.__getitem__)
    if best in (0, GRID - 1):
        at_the_end(math.exp(points[best]), "the loss falls up to the end of the range")
        return math.exp(points[best])
    found = minimize_scalar(at, bounds=(points[best - 1], points[best + 1]), method="bounded", options={"xatol": 1e-10})
    return math.exp(float(found.x))
