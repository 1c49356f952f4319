"""Reduction as a scikit-learn estimator: `GaussianMixtureReducer(n_components=10).fit(mixture)`."""

from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from attar.mixtures.methods import settings_of
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.sources import FITTED, MixtureSource, load

OWN = ("n_components", "method", "random_state")
MOST = 2**31 - 1


class GaussianMixtureReducer(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """Reduce a mixture to fewer components.

    Args:
        n_components: Number of components of the reduced mixture.
        method: A name in `attar.mixtures.METHODS`, or the settings of a method, a `Reducer`.
        random_state: Seed of random starts, or a generator of NumPy that draws it.
        options: Settings of the method, such as `criterion="nise"`, and `fit_components` of a mixture that is fitted to
            samples (by default 40, or as many as there are samples). `get_params` and `set_params` treat them as
            parameters of the estimator.

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
        self, n_components: Any = 10, *, method: Any = "oggmr", random_state: Any = 0, **options: Any
    ) -> None:  # parameters are checked by fit, as everywhere in scikit-learn
        self.n_components = n_components
        self.method = method
        self.random_state = random_state
        for name, value in options.items():
            setattr(self, name, value)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters, including the options of the method."""
        return {name: value for name, value in vars(self).items() if not (name.startswith("_") or name.endswith("_"))}

    def set_params(self, **params: Any) -> Self:
        """Change parameters. A name that the estimator does not have becomes an option of the method."""
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Reduce a mixture.

        Args:
            X: A mixture of attar, a fitted mixture of scikit-learn or a mixture of torch; or samples
                `[sample, dimension]`, to which a mixture of `fit_components` components is fitted first.
            y: Not used.

        Raises:
            InputError: The settings or the mixture cannot be used.
            ValueError: The samples are not a table of finite real numbers.
        """
        options = {name: value for name, value in self.get_params().items() if name not in OWN}
        components = options.pop("fit_components", None)
        if _is_mixture(X):
            source = load(X)
            self.n_features_in_ = source.mixture.dimension
        else:
            samples = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
            source = load(samples, fit_components=components or min(FITTED, len(samples)))
        settings = settings_of(self.method, self.n_components, options)
        found = settings.reduce(source.mixture, seed=self._seed())
        self.reduction_, self.original_, self.mixture_ = found, source.mixture, found.mixture.full()
        fitted = self.mixture_.to_sklearn()
        for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
            setattr(self, name, getattr(fitted, name))
        self.covariance_type_ = fitted.covariance_type
        self.labels_ = found.assignment.numpy()
        self.distance_ = found.distance(source.mixture)
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The most probable component of the reduced mixture for each sample."""
        check_is_fitted(self)
        samples = validate_data(self, X, dtype=np.float64, reset=False)
        return self.mixture_.to_sklearn().predict(samples)

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """The log density of the reduced mixture at each sample."""
        check_is_fitted(self)
        samples = validate_data(self, X, dtype=np.float64, reset=False)
        return self.mixture_.log_prob(torch.tensor(samples)).numpy()

    def score(self, X: Any, y: Any = None) -> float:  # noqa: N803
        """The mean log density of the reduced mixture at the samples."""
        return float(self.score_samples(X).mean())

    def _seed(self) -> int:
        """The seed itself, or one drawn from the generator of NumPy that was given."""
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(MOST))


def _is_mixture(given: Any) -> bool:
    """Whether this is a mixture, or names one, instead of being a table of samples."""
    known = (GaussianMixture, MixtureSource, torch.distributions.Distribution, str, Path)
    return isinstance(given, known) or hasattr(given, "covariance_type")
