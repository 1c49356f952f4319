"""Costs between Gaussians, and the barycentre of several Gaussians for each cost.

The KL barycentre preserves moments. The Wasserstein barycentre is a fixed point. The barycentres of the ISE and of the
Cauchy-Schwarz divergence have no closed form. L-BFGS finds them, for all groups at once.
"""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.mixtures.gaussians import Gaussians, kl_table
from attar.mixtures.merging import merge_shares
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.optimise import finite_or_far
from attar.mixtures.overlap import log_overlap

GaussianCost = Literal["kl", "w2", "ise", "cauchy_schwarz"]

Plan = Float[Tensor, "component group"]


def cost_table(f: GaussianMixture, g: GaussianMixture, cost: GaussianCost) -> Float[Tensor, "component group"]:
    """The costs C(φ_i, φ_j) between unit-weight Gaussians: KL(φ_i ‖ φ_j), W2², ISE, or -log of their cosine."""
    f, g = f.full(), g.full()
    if cost == "kl":
        return torch.from_numpy(kl_table(Gaussians.of(f), Gaussians.of(g)))
    if cost == "w2":
        return wasserstein(f, g)
    return _overlap_costs(f, g.means, g.covariances, cost)


def barycentres(f: GaussianMixture, plan: Plan, cost: GaussianCost, start: GaussianMixture) -> GaussianMixture:
    """For each group, the Gaussian that minimises Σ_i π_ij C(φ_i, ·).

    Args:
        f: The original, a single mixture.
        plan: Weight of each component in each group; no group is empty.
        cost: The cost C.
        start: One Gaussian for each group. The optimiser begins there if the cost has no closed form.
    """
    moments = merge_shares(f, plan / f.weights.clamp_min(torch.finfo(torch.float64).tiny)[:, None])
    if cost == "kl":
        return moments
    if cost == "w2":
        return _wasserstein_barycentres(f, plan, moments)
    return _least_cost(f, plan, cost, start)


def wasserstein(f: GaussianMixture, g: GaussianMixture) -> Float[Tensor, "component group"]:
    """W2² = ‖μ-m‖² + tr(S + T - 2 (S^½ T S^½)^½) for every pair, in squared units of the space."""
    f, g = f.full(), g.full()
    root = _root(f.covariances).unsqueeze(1)
    mixed = _root(root @ g.covariances @ root).diagonal(dim1=-2, dim2=-1).sum(-1)
    own = f.covariances.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None] + g.covariances.diagonal(dim1=-2, dim2=-1).sum(-1)
    away = (f.means[:, None] - g.means).square().sum(-1)
    return away + (own - 2 * mixed).clamp_min(0)


def _wasserstein_barycentres(f: GaussianMixture, plan: Plan, start: GaussianMixture) -> GaussianMixture:
    """Iterate T ← T^-½ (Σ_i λ_i (T^½ S_i T^½)^½)² T^-½ to its fixed point.

    Álvarez-Esteban et al., 2016, arXiv:1511.05355.
    """
    shares, covariances = plan / plan.sum(0), f.full().covariances
    middle = start.covariances
    for _ in range(200):
        root = _root(middle)
        inner = _root(root.unsqueeze(1) @ covariances @ root.unsqueeze(1))
        mean = torch.einsum("ng,gnde->gde", shares, inner)
        inverse = torch.linalg.inv(root)
        fresh = inverse @ mean @ mean @ inverse
        fresh = (fresh + fresh.mT) / 2
        done = (fresh - middle).abs().amax() <= 1e-14 * middle.abs().amax()
        middle = fresh
        if done:
            break
    return GaussianMixture(start.weights, start.means, middle, check=False)


def _least_cost(f: GaussianMixture, plan: Plan, cost: GaussianCost, start: GaussianMixture) -> GaussianMixture:
    from scipy.optimize import minimize

    f, d, groups = f.full(), f.dimension, plan.shape[1]
    rows, columns = torch.tril_indices(d, d)

    def gaussians(vector: Tensor) -> tuple[Tensor, Tensor]:
        means, entries = vector.split([groups * d, groups * len(rows)])
        entries = entries.view(groups, -1)
        factor = entries.new_zeros(groups, d, d).index_put((torch.arange(groups)[:, None], rows, columns), entries)
        diagonal = factor.diagonal(dim1=-2, dim2=-1)
        factor = factor - torch.diag_embed(diagonal) + torch.diag_embed(diagonal.exp())
        return means.view(groups, d), factor @ factor.mT

    def with_gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
        vector = torch.from_numpy(point.copy()).requires_grad_()
        loss = (plan * _overlap_costs(f, *gaussians(vector), cost)).sum() / scale
        (slope,) = torch.autograd.grad(loss, vector)
        return finite_or_far(float(loss.detach()), slope.numpy())

    full = start.full()
    factor = torch.linalg.cholesky(full.covariances)
    factor = factor - torch.diag_embed(factor.diagonal(dim1=-2, dim2=-1) - factor.diagonal(dim1=-2, dim2=-1).log())
    first = torch.cat([full.means.flatten(), factor[:, rows, columns].flatten()])
    scale = float((plan * cost_table(f, full, cost)).sum().clamp_min(1e-300))
    limits = {"maxiter": 200, "ftol": 1e-14, "gtol": 1e-10}
    end = minimize(with_gradient, first.numpy(), jac=True, method="L-BFGS-B", options=limits)
    means, covariances = gaussians(torch.from_numpy(end.x.copy() if end.fun <= 1 else first.numpy()))
    lost = torch.linalg.cholesky_ex(covariances).info > 0  # singular to rounding: those stay where they began
    means, covariances = means.clone(), covariances.clone()
    means[lost], covariances[lost] = full.means[lost], full.covariances[lost]
    return GaussianMixture(plan.sum(0), means, covariances, check=False)


def _overlap_costs(f: GaussianMixture, means: Tensor, covariances: Tensor, cost: GaussianCost) -> Tensor:
    d = f.dimension
    own = -0.5 * (d * math.log(4 * math.pi) + torch.logdet(f.covariances))[:, None]
    other = -0.5 * (d * math.log(4 * math.pi) + torch.logdet(covariances))
    logs = log_overlap(f.means, f.covariances, means, covariances)
    if cost == "cauchy_schwarz":
        return ((own + other) / 2 - logs).clamp_min(0)
    return (own.exp() + other.exp() - 2 * logs.exp()).clamp_min(0)


def _root(matrices: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch d d"]:
    """The symmetric square root of each matrix."""
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mT
