"""Merging that preserves moments: one Gaussian with the weight, mean and covariance that several have together."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.mixtures.mixture import GaussianMixture


def merge(f: GaussianMixture) -> GaussianMixture:
    """All components as one: W = Σ w_i, m = Σ w_i μ_i / W, P = Σ w_i [S_i + (μ_i - m)(μ_i - m)ᵀ] / W. Batches too."""
    shares = torch.ones(*f.weights.shape, 1, dtype=f.weights.dtype)
    return merge_shares(f, shares)


def merge_groups(f: GaussianMixture, labels: Int[Tensor, " component"], n_groups: int) -> GaussianMixture:
    """Each group of a single mixture's components as one Gaussian.

    Raises:
        InputError: An empty group.
    """
    counts = labels.bincount(minlength=n_groups)
    if len(counts) > n_groups or (counts == 0).any():
        raise InputError(f"groups must be numbered 0 to {n_groups - 1}, none of them empty; sizes: {counts.tolist()}.")
    return merge_shares(f, torch.nn.functional.one_hot(labels, n_groups).to(f.weights.dtype))


def merge_shares(f: GaussianMixture, shares: Float[Tensor, "*batch component group"]) -> GaussianMixture:
    """Components divided among groups, and each group as one Gaussian. Differentiable.

    Args:
        f: A mixture or a batch.
        shares: How much of each component goes to each group; they sum to 1 over groups.
    """
    full = f.full()
    parts = f.weights.unsqueeze(-1) * shares
    # A group without weight takes its members as equals.
    parts = torch.where((parts.sum(-2, keepdim=True) > 0), parts, shares * torch.finfo(parts.dtype).tiny)
    weights = parts.sum(-2)
    inside = parts / weights.unsqueeze(-2)
    means = torch.einsum("...ng,...nd->...gd", inside, full.means)
    away = full.means.unsqueeze(-2) - means.unsqueeze(-3)
    covariances = torch.einsum("...ng,...nde->...gde", inside, full.covariances)
    covariances = covariances + torch.einsum("...ng,...ngd,...nge->...gde", inside, away, away)
    return GaussianMixture(weights, means, covariances, dtype=means.dtype, check=False)
