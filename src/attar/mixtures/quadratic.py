"""The best weights for fixed Gaussians: a convex quadratic programme, solved exactly by an active-set method.

With H_ij = <φ_i,φ_j> and h_i = <f,φ_i>, ISE = wᵀ H w - 2 hᵀ w + <f,f>. Weights must stay non-negative. Otherwise the
function of least ISE may not be a density.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from attar.mixtures.gaussians import Gaussians, log_self, log_table
from attar.mixtures.mixture import GaussianMixture

Vector = Float[np.ndarray, " component"]
Free = Bool[np.ndarray, " component"]
Family = Literal["rho", "nise", "ise"]
"""Families of distances with the same minimum: angle, chord and Cauchy-Schwarz; NISE and Tanimoto; ISE."""


def best_weights(f: GaussianMixture, g: GaussianMixture, family: Family = "ise") -> GaussianMixture:
    """The mixture g with the weights that bring it closest to f. Its Gaussians are unchanged.

    To minimise the ISE over the simplex is one quadratic programme. The angle does not depend on a mixture's length, so
    its minimum is the scaled projection of f onto the cone of the Gaussians. NISE = 1 - 2 hᵀw / (a + wᵀHw) is a ratio;
    Dinkelbach's iteration turns it into a few quadratic programmes.

    Args:
        f: The original mixture.
        g: A reduced mixture.
        family: The family of distances to minimise.
    """
    weights = solve_weights(Gaussians.of(f), Gaussians.of(g), family)
    return GaussianMixture(torch.from_numpy(weights), g.means, g.covariances, g.covariance_type, check=False)


def solve_weights(f: Gaussians, g: Gaussians, family: Family = "ise") -> Vector:
    """The weights of `best_weights`, as an array."""
    scale = float(log_self(f).max())
    gram = np.exp(log_table(g, g) - scale)
    target = np.exp(log_table(g, f) - scale) @ f.weights
    if family == "rho" and target.max() > 0:
        weights = nonnegative_minimum(gram, target)
        return weights / weights.sum()
    weights = simplex_minimum(gram, target)
    if family == "nise":
        energy = float(f.weights @ np.exp(log_table(f, f) - scale) @ f.weights)
        for _ in range(30):
            ratio = (target @ weights) / (energy + weights @ gram @ weights)
            if ratio <= 0:
                break
            fresh = simplex_minimum(gram, target / (2 * ratio))
            if np.abs(fresh - weights).max() < 1e-14:
                break
            weights = fresh
    return weights


def simplex_minimum(
    gram: Float[np.ndarray, "component component"], target: Vector, start: Vector | None = None
) -> Vector:
    """The weights that minimise wᵀ H w - 2 hᵀ w over w ≥ 0, Σ w = 1.

    Args:
        gram: The matrix H.
        target: The vector h.
        start: Weights close to the best ones, so that few steps are needed. Default: the best single Gaussian.
    """
    if start is None:
        weights = np.zeros(len(target))
        weights[int((gram.diagonal() - 2 * target).argmin())] = 1.0
        free = weights > 0
    else:
        weights, free = _on_its_face(gram, target, start, start > 0, total=True)
    return _active_set(gram, target, weights, free, total=True)


def nonnegative_minimum(gram: Float[np.ndarray, "component component"], target: Vector) -> Vector:
    """The weights that minimise wᵀ H w - 2 hᵀ w over w ≥ 0: non-negative least squares by Lawson and Hanson."""
    nothing = np.zeros(len(target))
    return _active_set(gram, target, nothing, nothing > 0, total=False)


def _active_set(gram: np.ndarray, target: Vector, weights: Vector, free: Free, *, total: bool) -> Vector:
    """Free one weight at a time, the one that gains most. Step back to the boundary if others become negative."""
    tolerance = 1e-12 * max(float(np.abs(target).max()), float(gram.diagonal().max()))
    for _ in range(20 * len(weights)):
        gain = target - gram @ weights
        level = gain[free].mean() if total else 0.0
        gain = np.where(free, -np.inf, gain - level)
        best = int(gain.argmax())
        if gain[best] <= tolerance:
            break
        weights, free = _on_its_face(gram, target, weights, free | (np.arange(len(free)) == best), total=total)
    return weights / weights.sum() if total else weights


def _on_its_face(gram: np.ndarray, target: Vector, weights: Vector, free: Free, *, total: bool) -> tuple[Vector, Free]:
    """The minimum with some weights free and the others zero. Weights that would become negative are fixed at zero."""
    while free.any():
        wanted = _least(gram, target, free, total=total)
        if (wanted[free] > 0).all():
            return wanted, free
        leaving = free & (wanted <= 0)
        steps = weights[leaving] / np.maximum(weights[leaving] - wanted[leaving], np.finfo(float).tiny)
        weights = weights + steps.min() * (wanted - weights)
        free = free & (weights > 1e-15)
        weights = np.where(free, weights, 0.0)
    return weights, free


def _least(gram: np.ndarray, target: Vector, free: Free, *, total: bool) -> Vector:
    """The unconstrained minimum in the free weights, by least squares, because equal Gaussians make H singular."""
    size = int(free.sum())
    matrix, right = gram[np.ix_(free, free)], target[free]
    if total:
        edge = np.full((size, 1), gram.diagonal().max())  # a row of ones, on the scale of the others
        matrix = np.block([[matrix, edge], [edge.T, np.zeros((1, 1))]])
        right = np.append(right, edge[0, 0])
    solution = np.linalg.lstsq(matrix, right, rcond=1e-14)[0][:size]
    wanted = np.zeros(len(target))
    wanted[free] = solution
    return wanted
