"""All parameters of a reduced mixture, moved together until its distance to the original is least.

`attar.mixtures.objective` says what is minimised. L-BFGS begins in the frames of the start's own Gaussians, with steps
that are longer for faint ones: counted in the coordinates of the space it takes about ten times as many.
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
"""What is minimised for each kind of distance."""

FAR = 1e10
"""The loss of parameters that are no mixture in floating-point numbers."""
NOTHING = 1e-8
"""Weights below which a component is dropped: a softmax never reaches zero."""


def family_of(kind: str) -> Family:
    """Which of the three criteria a kind of distance is minimised by.

    Raises:
        InputError: An unknown kind.
    """
    check_kind(kind)
    return FAMILIES[kind]


def optimised(
    f: GaussianMixture, start: Reduction, kind: str, *, iterations: int = 2000, gradient: float = 1e-8
) -> Reduction:
    """A reduction with its mixture optimised by L-BFGS; never farther from f than the start.

    Args:
        f: The original.
        start: Where to begin.
        kind: The distance to minimise.
        iterations: At most so many.
        gradient: Stop when no entry of the gradient is larger.
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
    """The nearest of several optimised starts, with the evaluations of all."""
    ends = [optimised(f, start, kind, iterations=iterations, gradient=gradient) for start in starts]
    best = min(ends, key=lambda end: end.distance(f, kind))
    return replace(best, evaluations=sum(end.evaluations for end in ends))


def without_empty(f: GaussianMixture, found: Reduction) -> Reduction:
    """Without components of practically no weight; what was merged into them goes to the nearest left (by KL)."""
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
    """Bringing a mixture close to f, as a function of a vector."""

    kind: str
    objective: Objective

    @classmethod
    def of(cls, f: GaussianMixture, kind: str, start: GaussianMixture | None = None) -> "Problem":
        """The problem of one original and one kind of distance.

        Args:
            f: The original.
            kind: The distance.
            start: Its Gaussians are the frames of the parameters; unless given, f as one Gaussian is that of all.

        Raises:
            InputError: An unknown kind, or a covariance that is not positive definite.
        """
        family = family_of(kind)
        try:
            frames = Frames.of(Gaussians.of(merge(f) if start is None else start))
        except np.linalg.LinAlgError:
            raise InputError("a covariance to begin with is not positive definite.") from None
        return cls(kind, Objective(Gaussians.of(f), family, frames))

    def vector(self, g: GaussianMixture) -> Float[Tensor, " parameter"]:
        """The parameters of a mixture."""
        return torch.from_numpy(self.objective.vector(Gaussians.of(g)))

    def mixture(self, vector: Float[Tensor, " parameter"]) -> GaussianMixture:
        """The inverse of `vector`."""
        g = self.objective.parameters(vector.numpy())
        weights, means, covariances = (torch.from_numpy(v) for v in (np.exp(g.log_weights), g.means, g.covariances))
        return GaussianMixture(weights, means, covariances, check=False)

    def loss(self, vector: Float[Tensor, " parameter"]) -> Float[Tensor, ""]:
        """What is minimised, as a tensor; differentiable once."""
        loss: Tensor = _Loss.apply(vector, self.objective)
        return loss

    def distance(self, loss: float) -> float:
        """The kind of distance that a value of the loss stands for."""
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
        """The mixture at the end, the distance after each iteration, and how often the loss was computed."""
        from scipy.optimize import minimize

        g = Gaussians.of(start)
        first, units = self.objective.vector(g), self.objective.units(g)
        values: list[float] = []

        def with_gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
            with np.errstate(all="ignore"):  # a line search may go where a covariance overflows
                loss, slope = self.objective(first + units * point)
            return finite_or_far(loss, units * slope)

        def after_each(intermediate_result: Any) -> None:
            values.append(self.distance(float(intermediate_result.fun)))

        limits = {"maxiter": iterations, "maxfun": 10 * iterations, "gtol": gradient, "ftol": 1e-15, "maxcor": 20}
        nowhere = np.zeros_like(first)
        end = minimize(with_gradient, nowhere, jac=True, method="L-BFGS-B", callback=after_each, options=limits)
        return self.mixture(torch.from_numpy(first + units * end.x)), values, int(end.nfev)


def finite_or_far(loss: float, slope: Vector) -> tuple[float, Vector]:
    """A loss and its gradient as an optimiser of SciPy wants them; from where they overflow it has to step back."""
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
