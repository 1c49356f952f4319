import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture as Fitted
from sklearn.utils.estimator_checks import check_estimator

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


@pytest.mark.parametrize(
    "reducer",
    [
        GaussianMixtureReducer(),
        GaussianMixtureReducer(3, method="runnalls"),
        GaussianMixtureReducer(2, method=West(enhanced=False), random_state=5),
    ],
    ids=["default", "named", "settings"],
)
@pytest.mark.filterwarnings("ignore")
def test_it_passes_the_checks_of_scikit_learn(reducer):
    """All that apply. Without SCIPY_ARRAY_API set, scikit-learn skips its check of other arrays than NumPy's."""
    results = check_estimator(reducer, on_fail=None, on_skip=None)
    assert {one["check_name"] for one in results if one["status"] == "failed"} == set()
    assert {one["check_name"] for one in results if one["status"] == "skipped"} <= {"check_array_api_input"}
    assert len(results) > 40


def test_few_samples_are_fitted_with_fewer_components_and_a_stated_number_is_kept():
    points = digits_plane()[:25]
    assert len(GaussianMixtureReducer(6).fit(points).labels_) == 25
    with pytest.raises(InputError, match="25 samples are too few for 40 components"):
        GaussianMixtureReducer(6, fit_components=40).fit(points)


@pytest.mark.parametrize("seed", [np.int64(7), np.random.RandomState(3), None])
def test_a_random_state_is_what_scikit_learn_takes(seed, standard):
    assert GaussianMixtureReducer(3, method="ctdgmr", random_state=seed).fit(standard).means_.shape == (3, 1)


@pytest.mark.parametrize("points", [np.ones((4, 2)) * np.nan, np.ones((4, 2, 2)), np.array([["a", "b"]] * 4), [[1, 2]]])
def test_samples_that_are_no_table_are_a_value_error_as_scikit_learn_has_it(points):
    with pytest.raises(ValueError, match=r"NaN|dim|convert|minimum"):
        GaussianMixtureReducer(2).fit(points)


def test_frames_name_their_columns_and_a_wrong_width_is_refused():
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    points = pandas.DataFrame(digits_plane()[:60], columns=["first", "second"])
    reducer = GaussianMixtureReducer(3, method="runnalls").fit(points)
    assert reducer.feature_names_in_.tolist() == ["first", "second"]
    assert reducer.score(points) == pytest.approx(reducer.score_samples(points).mean())
    with pytest.raises(ValueError, match="feature names"):
        reducer.predict(points[["first"]])


def test_wrong_parameters_are_refused_when_it_fits(standard):
    with pytest.raises(InputError, match="unknown method 'runals'; did you mean 'runnalls'"):
        GaussianMixtureReducer(method="runals").fit(standard)
    with pytest.raises(InputError, match="unknown setting of Runnalls 'criterion'"):
        GaussianMixtureReducer(5, method="runnalls", criterion="nise").fit(standard)
    with pytest.raises(InputError, match="n_components is 11, but the mixture has 10"):
        GaussianMixtureReducer(11).fit(standard)
    with pytest.raises(NotFittedError):
        GaussianMixtureReducer().predict(torch.zeros(1, 1))
