import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture as Fitted

from attar.core.errors import InputError
from attar.mixtures import CTDGMR, OGGMR, GaussianMixtureReducer, Runnalls, West
from attar.mixtures.sources import digits_plane


def test_it_reduces_as_the_settings_do(standard):
    reducer = GaussianMixtureReducer(n_components=5, method="runnalls").fit(standard)
    expected = Runnalls(n_components=5).reduce(standard)
    np.testing.assert_array_equal(reducer.means_, expected.mixture.means)
    np.testing.assert_allclose(reducer.weights_, expected.mixture.weights, rtol=1e-15)
    np.testing.assert_array_equal(reducer.labels_, expected.assignment)
    assert reducer.covariances_.shape == reducer.precisions_cholesky_.shape == (5, 1, 1)
    assert reducer.distance_ == pytest.approx(expected.distance(standard))
    assert (reducer.n_features_in_, reducer.covariance_type_) == (1, "full")


def test_options_are_parameters_like_the_others():
    reducer = GaussianMixtureReducer(n_components=5, method="west", near="kl")
    assert reducer.get_params() == {"n_components": 5, "method": "west", "random_state": 0, "near": "kl"}
    assert reducer.set_params(near="ise", n_components=4).get_params()["near"] == "ise"
    copy = clone(reducer)
    assert copy is not reducer
    assert copy.get_params() == reducer.get_params()
    assert repr(reducer) == "GaussianMixtureReducer(method='west', n_components=4, near='ise')"
    assert repr(GaussianMixtureReducer()) == "GaussianMixtureReducer()"


def test_settings_are_a_method_too(standard):
    by_settings = GaussianMixtureReducer(5, method=West(enhanced=False)).fit(standard)
    by_options = GaussianMixtureReducer(5, method="west", enhanced=False).fit(standard)
    np.testing.assert_array_equal(by_settings.means_, by_options.means_)
    assert clone(GaussianMixtureReducer(method=OGGMR(criterion="nise"))).method.criterion == "nise"


def test_fitted_mixtures_and_samples_are_taken():
    points = digits_plane()[:500]
    model = Fitted(n_components=12, random_state=0, reg_covar=1e-3).fit(points)
    reducer = GaussianMixtureReducer(6, method="runnalls").fit(model)
    assert reducer.labels_.shape == (12,)
    from_samples = GaussianMixtureReducer(6, method="runnalls", fit_components=12).fit(points)
    assert from_samples.labels_.shape == (12,)
    assert reducer.predict(points).shape == (500,)
    scores = reducer.mixture_.to_sklearn().score_samples(points)
    np.testing.assert_allclose(reducer.score_samples(points), scores, rtol=1e-8)
    assert reducer.score_samples(points).mean() > model.score_samples(points).mean() - 0.5


def test_a_seed_is_a_random_state(standard):
    first, again = (GaussianMixtureReducer(3, method="ctdgmr", random_state=7).fit(standard) for _ in range(2))
    np.testing.assert_array_equal(first.means_, again.means_)
    expected = CTDGMR(n_components=3).reduce(standard, seed=7)
    np.testing.assert_array_equal(first.means_, expected.mixture.means)


def test_wrong_parameters_are_refused_when_it_fits(standard):
    with pytest.raises(InputError, match="unknown method 'runals'; did you mean 'runnalls'"):
        GaussianMixtureReducer(method="runals").fit(standard)
    with pytest.raises(InputError, match="unknown setting of Runnalls 'criterion'"):
        GaussianMixtureReducer(5, method="runnalls", criterion="nise").fit(standard)
    with pytest.raises(InputError, match="n_components is 11, but the mixture has 10"):
        GaussianMixtureReducer(11).fit(standard)
    with pytest.raises(NotFittedError):
        GaussianMixtureReducer().predict(torch.zeros(1, 1))
