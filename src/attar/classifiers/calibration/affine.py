"""What vector, matrix and Dirichlet scaling share: a linear map of logits, fitted by L-BFGS in float64."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from attar.classifiers.calibration.calibration import Calibration, Labels, Learned, Logits, Views
from attar.core.notes import note
from attar.core.settings import Range

Matrix = Float[Tensor, "classes classes"]
Vector = Float[Tensor, " classes"]

SLOPE = 1e-6
"""Largest derivative at which the fit stops."""
FAR = 1e-3
"""Largest derivative with which it passes as converged where the largest number of iterations ends it."""


@dataclass(frozen=True, kw_only=True)
class Affine(Calibration):
    """Settings of calibrators that are linear maps of logits."""

    iterations: Annotated[int, Range(1)] = 1000
    """Largest number of iterations of the optimiser."""

    keeps_order = False

    def inputs(self, logits: Logits) -> Logits:
        """What is mapped."""
        return logits

    def calibrated(self, learned: Learned, logits: Logits, views: Views) -> Logits:
        """The log-softmax of the mapped logits."""
        return F.log_softmax(mapped(self.inputs(logits), learned["weight"], learned["bias"]), dim=1)


def mapped(inputs: Logits, weight: Matrix | Vector, bias: Vector) -> Logits:
    """The map: a ⊙ x + b, or W x + b."""
    return (inputs * weight if weight.ndim == 1 else F.linear(inputs, weight)) + bias


def fitted(
    inputs: Logits, labels: Labels, *, full: bool, off_diagonal: float = 0.0, intercept: float = 0.0, iterations: int
) -> dict[str, Tensor]:
    """Weight and bias at which the penalised NLL is smallest, from the identity on.

    The penalty is ODIR: off_diagonal · mean_{i≠j} W_ij² + intercept · mean_j b_j². It is 0 at the identity, so that the
    NLL of the fitted map is at most that of the logits.

    Args:
        inputs: What is mapped.
        labels: The class of each sample.
        full: Whether W is a matrix; otherwise it is a vector.
        off_diagonal: Weight λ of the entries of W off the diagonal.
        intercept: Weight μ of the biases.
        iterations: Largest number of iterations.
    """
    rows, classes = inputs.shape
    right = F.one_hot(labels, classes).to(inputs)
    shape = (classes, classes) if full else (classes,)
    off = (1 - torch.eye(classes, dtype=inputs.dtype)) / (classes * (classes - 1)) if full else torch.zeros(classes)

    def at(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = torch.from_numpy(flat[:-classes]).reshape(shape), torch.from_numpy(flat[-classes:])
        log_p = F.log_softmax(mapped(inputs, weight, bias), dim=1)
        wrong = (log_p.exp() - right) / rows
        slope = wrong.T @ inputs if full else (wrong * inputs).sum(dim=0)
        penalty = off_diagonal * (off * weight.square()).sum() + intercept * bias.square().mean()
        value = penalty - (right * log_p).sum() / rows
        in_weight = slope + 2 * off_diagonal * off * weight
        in_bias = wrong.sum(dim=0) + 2 * intercept * bias / classes
        return float(value), torch.cat([in_weight.flatten(), in_bias]).numpy()

    identity = torch.eye(classes) if full else torch.ones(classes)
    start = torch.cat([identity.flatten(), torch.zeros(classes)]).double().numpy()
    options = {"maxiter": iterations, "maxfun": 4 * iterations, "ftol": 0.0, "gtol": SLOPE, "maxcor": 20}
    found = minimize(at, start, jac=True, method="L-BFGS-B", options=options)
    steepest = float(np.abs(found.jac).max())
    if steepest > FAR or (found.nit >= iterations and steepest > SLOPE):
        note(
            f"the fit stopped after {found.nit} iterations at a derivative of {steepest:.1e}. Give it more "
            "iterations, more rows, or a penalty.",
            stacklevel=3,
        )
    whole = torch.from_numpy(found.x)
    return {"weight": whole[:-classes].reshape(shape).clone(), "bias": whole[-classes:].clone()}
