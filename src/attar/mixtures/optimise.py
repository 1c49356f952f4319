"""Optimise all parameters of a reduced mixture together, to minimise its distance to the original.

`attar.mixtures.objective` defines the loss. L-BFGS counts parameters in the frames of the start's own Gaussians, with
longer steps for faint Gaussians. In the coordinates of the space it would take about ten times as many steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from attar.core.errors import InputError
from attar.mixtures.distances import check_kind, distance
from attar.mixtures.gaussians import Gaussians, kl_table
from attar.mixtures.merging import merge
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.objective import Frames, Objective, Vector
from attar.mixtures.quadratic import Family
from attar.mixtures.reduction import Reduction

FAMILIES: dict[str, Family] = {
    "angle": "rho",
    "chord": "rho",
    "cauchy_schwarz": "rho",
    "nise": "nise",
    "sqrt_nise": "nise",
    "tanimoto": "nise",
    "ise": "ise",
    "l2": "ise",
}
"""The loss that is minimised for each kind of distance."""

FAR = 1e10
"""Loss of parameters for which floating-point numbers overflow."""
NOTHING = 1e-8
"""Weight below which a component is removed, because a softmax never reaches zero."""


def family_of(kind: str) -> Family:
    """The loss, of three, that minimises a kind of distance.

    Raises:
        InputError: The kind is unknown.
    """
    check_kind(kind)
    return FAMILIES[kind]


def optimised(
    f: GaussianMixture, start: Reduction, kind: str, *, iterations: int = 2000, gradient: float = 1e-8
) -> Reduction:
    """A reduction whose mixture L-BFGS has optimised. It is never farther from f than the start.

    Args:
        f: The original mixture.
        start: The reduction to begin with.
        kind: Kind of distance to minimise.
        iterations: Largest number of iterations.
        gradient: The optimiser stops when no entry of the gradient is larger.
    """
    problem = Problem.of(f, kind, start.mixture)
    end, values, evaluations = problem.minimise(start.mixture, iterations=iterations, gradient=gradient)
    found = Reduction(end, start.assignment, (*start.trace, *values), start.evaluations + evaluations)
    found = without_empty(f, found)
    better = distance(f, found.mixture, kind) <= distance(f, start.mixture, kind)
    return found if better else replace(found, mixture=start.mixture, assignment=start.assignment)


def best_of(
    f: GaussianMixture, starts: Sequence[Reduction], kind: str, *, iterations: int = 2000, gradient: float = 1e-8
) -> Reduction:
    """The optimised start that is nearest to f, with the evaluations of all starts."""
    ends = [optimised(f, start, kind, iterations=iterations, gradient=gradient) for start in starts]
    best = min(ends, key=lambda end: end.distance(f, kind))
    return replace(best, evaluations=sum(end.evaluations for end in ends))


def without_empty(f: GaussianMixture, found: Reduction) -> Reduction:
    """Remove components of practically no weight; what was merged into them is assigned to the nearest one by KL."""
    kept = found.mixture.weights > NOTHING
    if kept.all():
        return found
    mixture = found.mixture.select(kept.nonzero().flatten())
    nearest = torch.from_numpy(kl_table(Gaussians.of(f), Gaussians.of(mixture)).argmin(axis=1))
    place = kept.cumsum(0) - 1
    assignment = torch.where(kept[found.assignment], place[found.assignment], nearest)
    return replace(found, mixture=mixture, assignment=assignment)


@dataclass(frozen=True)
class Problem:
    """The problem of bringing a mixture close to f, as a function of a vector of parameters."""

    kind: str
    objective: Objective

    @classmethod
    def of(cls, f: GaussianMixture, kind: str, start: GaussianMixture | None = None) -> "Problem":
        """The problem for one original and one kind of distance.

        Args:
            f: The original mixture.
            kind: Kind of distance.
            start: Mixture whose Gaussians are the frames of the parameters. Default: the merge of f, for all Gaussians.

        Raises:
            InputError: The kind is unknown, or a covariance is not positive definite.
        """
        family = family_of(kind)
        try:
            frames = Frames.of(Gaussians.of(merge(f) if start is None else start))
        except np.linalg.LinAlgError:
            raise InputError("a covariance of the start is not positive definite; every one must be.") from None
        return cls(kind, Objective(Gaussians.of(f), family, frames))

    def vector(self, g: GaussianMixture) -> Float[Tensor, " parameter"]:
        """The vector of parameters of a mixture."""
        return torch.from_numpy(self.objective.vector(Gaussians.of(g)))

    def mixture(self, vector: Float[Tensor, " parameter"]) -> GaussianMixture:
        """The mixture of a vector: the inverse of `vector`."""
        g = self.objective.parameters(vector.numpy())
        weights, means, covariances = (torch.from_numpy(v) for v in (np.exp(g.log_weights), g.means, g.covariances))
        return GaussianMixture(weights, means, covariances, check=False)

    def loss(self, vector: Float[Tensor, " parameter"]) -> Float[Tensor, ""]:
        """The loss as a tensor; it is differentiable once."""
        loss: Tensor = _Loss.apply(vector, self.objective)
        return loss

    def distance(self, loss: float) -> float:
        """The distance that a value of the loss corresponds to."""
        loss = max(loss, 0.0)
        if self.objective.family == "ise":
            value = loss * math.exp(self.objective.log_a)
            return math.sqrt(value) if self.kind == "l2" else value
        gap = -math.expm1(-loss)  # 1 - ρ, or NISE
        by_kind = {
            "angle": 2 * math.asin(math.sqrt(gap / 2)),
            "chord": math.sqrt(2 * gap),
            "cauchy_schwarz": loss,
            "nise": gap,
            "sqrt_nise": math.sqrt(gap),
            "tanimoto": 2 * gap / (1 + gap),
        }
        return by_kind[self.kind]

    def minimise(
        self, start: GaussianMixture, *, iterations: int, gradient: float
    ) -> tuple[GaussianMixture, list[float], int]:
        """Minimise the loss.

        Returns:
            The final mixture, the distance after each iteration, and the number of evaluations of the loss.
        """
        from scipy.optimize import minimize

        g = Gaussians.of(start)
        first, units = self.objective.vector(g), self.objective.units(g)
        values: list[float] = []

        def with_gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
            with np.errstate(all="ignore"):  # a line search may try parameters for which a covariance overflows
                loss, slope = self.objective(first + units * point)
            return finite_or_far(loss, units * slope)

        def after_each(intermediate_result: Any) -> None:
            values.append(self.distance(float(intermediate_result.fun)))

        limits = {"maxiter": iterations, "maxfun": 10 * iterations, "gtol": gradient, "ftol": 1e-15, "maxcor": 20}
        nowhere = np.zeros_like(first)
        end = minimize(with_gradient, nowhere, jac=True, method="L-BFGS-B", callback=after_each, options=limits)
        return self.mixture(torch.from_numpy(first + units * end.x)), values, int(end.nfev)


def finite_or_far(loss: float, slope: Vector) -> tuple[float, Vector]:
    """A loss and its gradient for an optimiser of SciPy. If they overflow, a large loss makes it step back."""
    if math.isfinite(loss) and np.isfinite(slope).all():
        return loss, slope
    return FAR, np.zeros_like(slope)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vector: Tensor, objective: Objective) -> Tensor:
        value, slope = objective(vector.detach().numpy())
        ctx.slope = torch.from_numpy(slope)
        return vector.new_tensor(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        return slopes[0] * ctx.slope, None
