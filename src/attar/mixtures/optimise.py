"""All parameters of a reduced mixture, moved together until its distance to the original is least.

Weights are a softmax, means are free, covariances are C Cᵀ with C lower triangular and the logs of its diagonal free:
nothing is constrained. Coordinates are those in which the original has unit covariance. What is minimised grows with
the distance and keeps its gradient where the distance loses it, when two mixtures hardly overlap: -log ρ for the angle
and its kin, log (a + c) / 2b for NISE and Tanimoto. The ISE is taken as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.mixtures.distances import check_kind, distance, log_inner
from attar.mixtures.gaussians import Gaussians, kl_table
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.overlap import log_overlap
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
    problem = Problem.of(f, kind)
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
    family: Family
    white: GaussianMixture
    """f where it has zero mean and unit covariance."""
    log_a: Tensor
    """log <f,f> there."""
    log_scale: float
    """log |A| of the map x = A y + b back from there: densities and inner products are smaller by that in x."""
    back: Float[Tensor, "dimension dimension"]
    centre: Float[Tensor, " dimension"]

    @classmethod
    def of(cls, f: GaussianMixture, kind: str) -> "Problem":
        """The problem of one original and one kind of distance."""
        family = family_of(kind)
        f = f.plain()
        back, failed = torch.linalg.cholesky_ex(f.covariance())
        if failed:
            raise InputError("the covariance of the whole mixture is not positive definite.")
        there, centre = torch.linalg.inv(back), f.mean()
        white = f.affine(there, -there @ centre)
        log_scale = float(back.diagonal().log().sum())
        return cls(kind, family, white, log_inner(white, white), log_scale, back, centre)

    def vector(self, g: GaussianMixture) -> Float[Tensor, " parameter"]:
        """The parameters of a mixture."""
        there = torch.linalg.inv(self.back)
        white = g.affine(there, -there @ self.centre)
        factor = torch.linalg.cholesky(white.covariances)
        rows, columns = _below(g.dimension)
        logs = factor.diagonal(dim1=-2, dim2=-1).log()
        parts = [white.weights.clamp_min(1e-12).log(), white.means.flatten(), logs.flatten()]
        return torch.cat([*parts, factor[:, rows, columns].flatten()])

    def mixture(self, vector: Float[Tensor, " parameter"], *, white: bool = False) -> GaussianMixture:
        """The inverse of `vector`."""
        d = self.white.dimension
        n = len(vector) // (1 + d + d * (d + 1) // 2)
        alphas, means, logs, below = vector.split([n, n * d, n * d, n * d * (d - 1) // 2])
        rows, columns = _below(d)
        factor = torch.diag_embed(logs.view(n, d).exp())
        factor = factor.index_put((torch.arange(n)[:, None], rows, columns), below.view(n, -1))
        g = GaussianMixture(alphas.softmax(0), means.view(n, d), factor @ factor.mT, check=False)
        return g if white else g.affine(self.back, self.centre)

    def loss(self, vector: Float[Tensor, " parameter"]) -> Float[Tensor, ""]:
        """What is minimised: see the head of this file; the ISE in units of <f,f>."""
        g = self.mixture(vector, white=True)
        log_w, f = g.weights.log(), self.white
        logs_b = log_overlap(f.means, f.covariances, g.means, g.covariances)
        logs_c = log_overlap(g.means, g.covariances, g.means, g.covariances)
        log_b = torch.logsumexp((logs_b + f.weights.log()[:, None] + log_w).flatten(), 0)
        log_c = torch.logsumexp((logs_c + log_w[:, None] + log_w).flatten(), 0)
        if self.family == "rho":
            return (self.log_a + log_c) / 2 - log_b
        if self.family == "nise":
            return torch.logaddexp(self.log_a, log_c) - log_b - math.log(2)
        return 1 + (log_c - self.log_a).exp() - 2 * (log_b - self.log_a).exp()

    def distance(self, loss: float) -> float:
        """The kind of distance that a value of the loss stands for."""
        loss = max(loss, 0.0)
        if self.family == "ise":
            value = loss * math.exp(float(self.log_a) - self.log_scale)
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

        values: list[float] = []

        def with_gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
            vector = torch.from_numpy(point.copy()).requires_grad_()
            loss = self.loss(vector)
            (slope,) = torch.autograd.grad(loss, vector)
            return finite_or_far(loss, slope)

        def after_each(intermediate_result: Any) -> None:
            values.append(self.distance(float(intermediate_result.fun)))

        limits = {"maxiter": iterations, "maxfun": 10 * iterations, "gtol": gradient, "ftol": 1e-15, "maxcor": 20}
        first = self.vector(start).numpy()
        end = minimize(with_gradient, first, jac=True, method="L-BFGS-B", callback=after_each, options=limits)
        return self.mixture(torch.from_numpy(end.x.copy())), values, int(end.nfev)


def finite_or_far(loss: Tensor, slope: Tensor) -> tuple[float, np.ndarray]:
    """A loss and its gradient as an optimiser of SciPy wants them; from where they overflow it has to step back."""
    if loss.isfinite() and slope.isfinite().all():
        return float(loss.detach()), slope.numpy()
    return FAR, np.zeros(len(slope))


def _below(dimension: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.tril_indices(dimension, dimension, -1)
    return rows, columns
