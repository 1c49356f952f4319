"""Reduction as a scikit-learn estimator: `GaussianMixtureReducer(n_components=10).fit(mixture)`."""

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from attar.mixtures.methods import settings_of
from attar.mixtures.reduction import Reducer
from attar.mixtures.sources import FITTED, load


class GaussianMixtureReducer(BaseEstimator):  # type: ignore[misc]
    """Fewer components that do the same job.

    Args:
        n_components: Components to leave.
        method: A name of `attar.mixtures.METHODS`, or settings of one.
        random_state: Seed of random starts.
        options: Settings of the method, such as `criterion="nise"`, and `fit_components` of a mixture that is fitted to
            samples; they are parameters like the others.

    Attributes:
        mixture_: The reduced mixture.
        original_: The mixture that was reduced.
        weights_: Its weights, `[component]`.
        means_: `[component, dimension]`.
        covariances_: `[component, dimension, dimension]`.
        precisions_cholesky_: As scikit-learn's mixtures have them.
        covariance_type_: "full".
        labels_: For each original component, the one it was merged into.
        distance_: Angle to the original, in radians.
        reduction_: The whole result.
        n_features_in_: Dimension.
    """

    def __init__(
        self, n_components: int = 10, *, method: str | Reducer = "oggmr", random_state: int = 0, **options: Any
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.random_state = random_state
        self.options = options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters, the method's options among them."""
        own = {"n_components": self.n_components, "method": self.method, "random_state": self.random_state}
        return {**own, **self.options}

    def set_params(self, **params: Any) -> Self:
        """Change parameters; what is none of the estimator's is taken for an option of the method."""
        for name, value in params.items():
            if name in ("n_components", "method", "random_state"):
                setattr(self, name, value)
            else:
                self.options = {**self.options, name: value}
        return self

    def fit(self, X: Any, y: None = None) -> Self:  # noqa: N803
        """Reduce a mixture.

        Args:
            X: A mixture, attar's, scikit-learn's fitted or torch's; or samples `[sample, dimension]`, to which one of
                `fit_components` components is fitted first.
            y: Not used.

        Raises:
            InputError: Settings or a mixture that cannot be used.
        """
        options = dict(self.options)
        source = load(X, fit_components=options.pop("fit_components", FITTED))
        settings = settings_of(self.method, self.n_components, options)
        found = settings.reduce(source.mixture, seed=self.random_state)
        self.reduction_, self.original_, self.mixture_ = found, source.mixture, found.mixture.full()
        fitted = self.mixture_.to_sklearn()
        for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
            setattr(self, name, getattr(fitted, name))
        self.covariance_type_ = fitted.covariance_type
        self.labels_ = found.assignment.numpy()
        self.distance_ = found.distance(source.mixture)
        self.n_features_in_ = source.mixture.dimension
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The most probable component of the reduced mixture for each sample."""
        check_is_fitted(self)
        return self.mixture_.to_sklearn().predict(np.asarray(X, dtype=float))

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """The log density of the reduced mixture at each sample."""
        check_is_fitted(self)
        return self.mixture_.log_prob(torch.as_tensor(np.asarray(X, dtype=float))).numpy()
