"""Mixtures from and to scikit-learn and torch.distributions."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal

from attar.core.errors import InputError
from attar.mixtures.mixture import GaussianMixture

CERTAIN = 1e12
"""Samples that a converted Bayesian mixture claims to have seen: so many that its posterior is a point."""


def from_sklearn(model: Any) -> GaussianMixture:
    """The mixture of a fitted scikit-learn GaussianMixture or BayesianGaussianMixture.

    Raises:
        InputError: It is not fitted, or no mixture.
    """
    missing = [name for name in ("weights_", "means_", "covariances_", "covariance_type") if not hasattr(model, name)]
    if missing:
        kind = type(model).__name__
        raise InputError(f"{kind} has no {', '.join(missing)}; give a fitted GaussianMixture of scikit-learn.")
    return GaussianMixture(model.weights_, model.means_, model.covariances_, model.covariance_type)


def to_sklearn(mixture: GaussianMixture, *, bayesian: bool = False) -> Any:
    """A fitted scikit-learn estimator that predicts, scores and samples with these parameters.

    Raises:
        InputError: A batch of mixtures.
    """
    from sklearn.mixture import BayesianGaussianMixture
    from sklearn.mixture import GaussianMixture as Plain

    if mixture.batch_shape:
        raise InputError("scikit-learn knows no batches of mixtures; convert them one by one.")
    n, d = mixture.n_components, mixture.dimension
    weights, means, covariances = (tensor.detach().cpu().double().numpy() for tensor in mixture.tensors().values())
    kind = BayesianGaussianMixture if bayesian else Plain
    model = kind(n_components=n, covariance_type=mixture.covariance_type)
    model.weights_, model.means_, model.covariances_ = weights / weights.sum(), means, covariances
    model.precisions_cholesky_ = _precisions_cholesky(covariances, mixture.covariance_type)
    lower = model.precisions_cholesky_
    square = mixture.covariance_type in ("full", "tied")
    model.precisions_ = lower @ np.swapaxes(lower, -1, -2) if square else lower**2
    model.converged_, model.n_iter_, model.n_features_in_, model.lower_bound_ = True, 0, d, -np.inf
    if bayesian:
        # Counts so large that every expectation under the posterior is the value itself.
        model.weight_concentration_prior_type = "dirichlet_distribution"
        model.weight_concentration_ = CERTAIN * model.weights_
        model.mean_precision_ = np.full(n, CERTAIN)
        model.degrees_of_freedom_ = CERTAIN if mixture.covariance_type == "tied" else np.full(n, CERTAIN)
    return model


def from_torch(distribution: MixtureSameFamily) -> GaussianMixture:
    """The mixture of a `MixtureSameFamily` of Normal, Independent(Normal) or MultivariateNormal.

    Raises:
        InputError: Components of another family.
    """
    weights = distribution.mixture_distribution.probs
    parts = distribution.component_distribution
    if isinstance(parts, MultivariateNormal):
        return GaussianMixture(weights, parts.loc, parts.covariance_matrix)
    inner = parts.base_dist if isinstance(parts, Independent) else parts
    if isinstance(inner, Normal) and len(distribution.event_shape) <= 1:
        means, variances = inner.loc, inner.scale.square()
        if not distribution.event_shape:
            means, variances = means.unsqueeze(-1), variances.unsqueeze(-1)
        return GaussianMixture(weights, means, variances, "diag")
    raise InputError(f"the components are of {type(parts).__name__}; they must be normal distributions.")


def to_torch(mixture: GaussianMixture) -> MixtureSameFamily:
    """The mixture as a `MixtureSameFamily`: of MultivariateNormal, or of Independent(Normal) where it is diagonal."""
    means, covariances = mixture.means, mixture.covariances
    parts: Distribution
    if mixture.covariance_type in ("diag", "spherical"):
        deviations: Tensor = covariances.sqrt()
        if mixture.covariance_type == "spherical":
            deviations = deviations.unsqueeze(-1).expand_as(means)
        parts = Independent(Normal(means, deviations), 1)
    else:
        parts = MultivariateNormal(means, mixture.full().covariances)
    return MixtureSameFamily(Categorical(probs=mixture.weights), parts)


def _precisions_cholesky(covariances: np.ndarray, kind: str) -> np.ndarray:
    """As scikit-learn stores them: the upper triangular U with U Uᵀ = S⁻¹, or inverse standard deviations."""
    if kind in ("diag", "spherical"):
        return 1 / np.sqrt(covariances)
    lower = torch.linalg.cholesky(torch.from_numpy(covariances))
    one = torch.eye(covariances.shape[-1], dtype=torch.float64).expand_as(lower)
    return torch.linalg.solve_triangular(lower, one, upper=False).mT.numpy()
