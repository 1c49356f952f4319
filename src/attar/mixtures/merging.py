"""Merging that preserves moments: several Gaussians become one with the same weight, mean and covariance."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.mixtures.mixture import GaussianMixture


def merge(f: GaussianMixture) -> GaussianMixture:
    """Merge all components into one Gaussian; a batch is merged mixture by mixture.

    W = Σ w_i, m = Σ w_i μ_i / W, P = Σ w_i [S_i + (μ_i - m)(μ_i - m)ᵀ] / W.
    """
    shares = torch.ones(*f.weights.shape, 1, dtype=f.weights.dtype)
    return merge_shares(f, shares)


def merge_groups(f: GaussianMixture, labels: Int[Tensor, " component"], n_groups: int) -> GaussianMixture:
    """Merge each group of a single mixture's components into one Gaussian.

    Args:
        f: A single mixture.
        labels: The group of each component.
        n_groups: Number of groups.

    Raises:
        InputError: A group is empty, or a label is too large.
    """
    counts = labels.bincount(minlength=n_groups)
    if len(counts) > n_groups or (counts == 0).any():
        raise InputError(
            f"the groups have the sizes {counts.tolist()}; they must be numbered 0 to {n_groups - 1}, "
            "none of them empty."
        )
    return merge_shares(f, torch.nn.functional.one_hot(labels, n_groups).to(f.weights.dtype))


def merge_shares(f: GaussianMixture, shares: Float[Tensor, "*batch component group"]) -> GaussianMixture:
    """Divide components among groups and merge each group into one Gaussian. Differentiable.

    Args:
        f: A mixture or a batch of mixtures.
        shares: Share of each component that goes to each group. The shares of a component sum to 1.
    """
    full = f.full()
    parts = f.weights.unsqueeze(-1) * shares
    # In a group without weight all members count equally.
    parts = torch.where((parts.sum(-2, keepdim=True) > 0), parts, shares * torch.finfo(parts.dtype).tiny)
    weights = parts.sum(-2)
    inside = parts / weights.unsqueeze(-2)
    means = torch.einsum("...ng,...nd->...gd", inside, full.means)
    away = full.means.unsqueeze(-2) - means.unsqueeze(-3)
    covariances = torch.einsum("...ng,...nde->...gde", inside, full.covariances)
    covariances = covariances + torch.einsum("...ng,...ngd,...nge->...gde", inside, away, away)
    return GaussianMixture(weights, means, covariances, dtype=means.dtype, check=False)
