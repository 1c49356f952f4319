"""Convert the parameters of mixtures from and to scikit-learn and torch.distributions.

The public methods are those of `GaussianMixture`.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal

from attar.core.errors import InputError
from attar.mixtures.parameters import CovarianceType, Parameters

CERTAIN = 1e12
"""Number of samples that a converted Bayesian mixture claims to have seen; its posterior is practically a point."""


def from_sklearn(model: Any) -> Parameters:
    """The parameters of a fitted scikit-learn GaussianMixture or BayesianGaussianMixture.

    Raises:
        InputError: The model is not fitted or is not a mixture.
    """
    missing = [name for name in ("weights_", "means_", "covariances_", "covariance_type") if not hasattr(model, name)]
    if missing:
        kind = type(model).__name__
        raise InputError(f"{kind} has no {', '.join(missing)}. Give a fitted GaussianMixture of scikit-learn.")
    return Parameters(model.weights_, model.means_, model.covariances_, model.covariance_type)


def to_sklearn(
    weights: Float[np.ndarray, " component"],
    means: Float[np.ndarray, "component dimension"],
    covariances: Float[np.ndarray, "*kind"],
    covariance_type: CovarianceType,
    *,
    bayesian: bool = False,
) -> Any:
    """A fitted scikit-learn estimator that predicts, scores and samples with these parameters."""
    from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

    n, d = means.shape
    kind = BayesianGaussianMixture if bayesian else GaussianMixture
    model = kind(n_components=n, covariance_type=covariance_type)
    model.weights_, model.means_, model.covariances_ = weights / weights.sum(), means, covariances
    model.precisions_cholesky_ = _precisions_cholesky(covariances, covariance_type)
    lower = model.precisions_cholesky_
    square = covariance_type in ("full", "tied")
    model.precisions_ = lower @ np.swapaxes(lower, -1, -2) if square else lower**2
    model.converged_, model.n_iter_, model.n_features_in_, model.lower_bound_ = True, 0, d, -np.inf
    if bayesian:
        # With counts this large, every expectation under the posterior is the value itself.
        model.weight_concentration_prior_type = "dirichlet_distribution"
        model.weight_concentration_ = CERTAIN * model.weights_
        model.mean_precision_ = np.full(n, CERTAIN)
        model.degrees_of_freedom_ = CERTAIN if covariance_type == "tied" else np.full(n, CERTAIN)
    return model


def from_torch(distribution: MixtureSameFamily) -> Parameters:
    """The parameters of a `MixtureSameFamily` of Normal, Independent(Normal) or MultivariateNormal.

    Raises:
        InputError: The components are of another family.
    """
    weights = distribution.mixture_distribution.probs
    parts = distribution.component_distribution
    if isinstance(parts, MultivariateNormal):
        return Parameters(weights, parts.loc, parts.covariance_matrix)
    inner = parts.base_dist if isinstance(parts, Independent) else parts
    if isinstance(inner, Normal) and len(distribution.event_shape) <= 1:
        means, variances = inner.loc, inner.scale.square()
        if not distribution.event_shape:
            means, variances = means.unsqueeze(-1), variances.unsqueeze(-1)
        return Parameters(weights, means, variances, "diag")
    raise InputError(f"the components are of {type(parts).__name__}; they must be normal distributions.")


def to_torch(
    weights: Float[Tensor, "*batch component"],
    means: Float[Tensor, "*batch component dimension"],
    covariances: Float[Tensor, "*batch component dimension dimension"] | Float[Tensor, "*batch component dimension"],
) -> MixtureSameFamily:
    """A `MixtureSameFamily` of MultivariateNormal, or of Independent(Normal) if `covariances` holds variances only."""
    parts: Distribution
    if covariances.ndim == means.ndim:
        parts = Independent(Normal(means, covariances.sqrt()), 1)
    else:
        parts = MultivariateNormal(means, covariances)
    return MixtureSameFamily(Categorical(probs=weights), parts)


def _precisions_cholesky(covariances: np.ndarray, kind: str) -> np.ndarray:
    """Precisions as scikit-learn stores them: the upper triangular U with U Uᵀ = S⁻¹, or 1 / standard deviation."""
    if kind in ("diag", "spherical"):
        return 1 / np.sqrt(covariances)
    lower = torch.linalg.cholesky(torch.from_numpy(covariances))
    one = torch.eye(covariances.shape[-1], dtype=torch.float64).expand_as(lower)
    return torch.linalg.solve_triangular(lower, one, upper=False).mT.numpy()
