"""ETS: a mixture of the scaled softmax, the plain softmax and the uniform distribution.

Prefer it to one temperature where a classifier is over-confident even where it should know nothing. It keeps
predictions, and three weights are all that is added.
Zhang, Kailkhura and Han, Mix-n-Match: Ensemble and Compositional Methods for Uncertainty Calibration in Deep Learning,
ICML 2020, arXiv:2003.07329.
The released code finds the weights by SLSQP. They are the solution of a quadratic program of three weights, which is
found exactly here, from the seven faces of the simplex.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.calibration.calibration import Calibration, Labels, Learned, Logits, Views
from attar.classifiers.calibration.ts import temperature_by

Weights = Float[Tensor, "3"]

PLAIN = 1e-4
"""Least share of what is not uniform, so that predictions stay where all rows are wrong. It is seen in float32 too."""
BETTER = 1e-15
"""By how much a face with more components must be better than one with fewer."""


@dataclass(frozen=True, kw_only=True)
class EnsembleScaling(Calibration):
    """Mix scaled, plain and uniform probabilities (Zhang, Kailkhura and Han, ICML 2020, arXiv:2003.07329).

    p = w₁ softmax(z / T) + w₂ softmax(z) + w₃ / K, with T of temperature scaling, and w of the least Brier score.
    """

    loss: Literal["nll", "brier"] = "nll"
    """Loss whose minimum decides T: the negative log-likelihood, or the Brier score as in the released code."""

    name = "ets"

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """The temperature, and the three weights."""
        temperature = temperature_by(self.loss, logits, labels)
        weights = ensemble_weights(logits, labels, temperature)
        if float(weights[2]) > 1 - PLAIN:
            weights = torch.tensor([0, PLAIN, 1 - PLAIN]).to(weights)
        return {"temperature": torch.tensor(temperature, dtype=torch.float64), "weights": weights}

    def calibrated(self, learned: Learned, logits: Logits, views: Views) -> Logits:
        """The logarithm of the mixture."""
        scaled, plain = F.log_softmax(logits / learned["temperature"], dim=1), F.log_softmax(logits, dim=1)
        uniform = torch.full_like(plain, 1 / logits.shape[1]).log()
        parts = torch.stack([scaled, plain, uniform])
        return (parts + learned["weights"].log().view(3, 1, 1)).logsumexp(dim=0)

    def told(self, learned: Learned) -> dict[str, float]:
        """The temperature, and the weights of the three parts."""
        names = ("weight of the scaled", "weight of the plain", "weight of the uniform")
        weights = dict(zip(names, learned["weights"].tolist(), strict=True))
        return {"temperature": float(learned["temperature"]), **weights}


def ensemble_weights(logits: Logits, labels: Labels, temperature: float) -> Weights:
    """The weights of softmax(z/T), softmax(z) and 1/K with the least Brier score."""
    parts = [(logits / temperature).softmax(dim=1), logits.softmax(dim=1)]
    parts.append(torch.full_like(parts[0], 1 / logits.shape[1]))
    flat = torch.stack([part.flatten() for part in parts])
    right = F.one_hot(labels, logits.shape[1]).to(flat).flatten()
    return on_simplex(flat @ flat.T / len(logits), flat @ right / len(logits))


def on_simplex(gram: Float[Tensor, "n n"], target: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The weights w ≥ 0 with sum 1 at which wᵀ G w - 2 tᵀ w is smallest; only for a few.

    The minimum lies inside a face, where it is the solution of a linear system. So each face is tried. Of equally good
    ones that with the fewest and first components is taken.
    """
    count, best, lowest = len(target), torch.zeros_like(target), float("inf")
    for size in range(1, count + 1):
        for chosen in map(list, combinations(range(count), size)):
            system = torch.ones(size + 1, size + 1, dtype=gram.dtype)
            system[:size, :size], system[size, size] = gram[chosen][:, chosen], 0.0
            wanted = torch.cat([target[chosen], torch.ones(1, dtype=gram.dtype)])
            found = torch.linalg.lstsq(system, wanted[:, None], driver="gelsd").solution[:size, 0]
            if bool((found < 0).any()):
                continue
            weights = torch.zeros_like(target)
            weights[chosen] = found / found.sum()
            value = float(weights @ gram @ weights - 2 * target @ weights)
            if value < lowest - BETTER:
                best, lowest = weights, value
    return best
