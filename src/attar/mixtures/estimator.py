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
    """Reduce a mixture to fewer components.

    Args:
        n_components: Number of components of the reduced mixture.
        method: A name in `attar.mixtures.METHODS`, or the settings of a method.
        random_state: Seed of random starts.
        options: Settings of the method, such as `criterion="nise"`, and `fit_components` of a mixture that is fitted to
            samples. `get_params` and `set_params` treat them as parameters of the estimator.

    Attributes:
        mixture_: The reduced mixture.
        original_: The mixture that was reduced.
        weights_: Weights of the reduced mixture, `[component]`.
        means_: Means, `[component, dimension]`.
        covariances_: Covariances, `[component, dimension, dimension]`.
        precisions_cholesky_: Cholesky factors of the precisions, as in scikit-learn's mixtures.
        covariance_type_: Always "full".
        labels_: For each original component, the number of the component it was merged into.
        distance_: Angle to the original, in radians.
        reduction_: The complete result, a `Reduction`.
        n_features_in_: Dimension of the space.
    """

    def __init__(
        self, n_components: int = 10, *, method: str | Reducer = "oggmr", random_state: int = 0, **options: Any
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.random_state = random_state
        self.options = options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters, including the options of the method."""
        own = {"n_components": self.n_components, "method": self.method, "random_state": self.random_state}
        return {**own, **self.options}

    def set_params(self, **params: Any) -> Self:
        """Change parameters. A name that the estimator does not have becomes an option of the method."""
        for name, value in params.items():
            if name in ("n_components", "method", "random_state"):
                setattr(self, name, value)
            else:
                self.options = {**self.options, name: value}
        return self

    def fit(self, X: Any, y: None = None) -> Self:  # noqa: N803
        """Reduce a mixture.

        Args:
            X: A mixture of attar, a fitted mixture of scikit-learn or a mixture of torch; or samples
                `[sample, dimension]`, to which a mixture of `fit_components` components is fitted first.
            y: Not used.

        Raises:
            InputError: The settings or the mixture cannot be used.
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
