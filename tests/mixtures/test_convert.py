import numpy as np
import pytest
import torch
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as Fitted
from torch.distributions import Categorical, Gamma, Independent, MixtureSameFamily, MultivariateNormal, Normal

from attar.core.errors import InputError
from attar.mixtures import GaussianMixture, random_mixture
from attar.mixtures.mixture import COVARIANCES


@pytest.fixture(scope="module")
def points():
    return random_mixture(4, 3, torch.Generator().manual_seed(3)).sample(600, torch.Generator().manual_seed(4)).numpy()


@pytest.mark.parametrize("kind", COVARIANCES)
@pytest.mark.parametrize("family", [Fitted, BayesianGaussianMixture])
def test_a_fitted_mixture_comes_back_as_it_went(family, kind, points):
    model = family(n_components=4, covariance_type=kind, random_state=0, max_iter=500, tol=1e-2).fit(points)
    f = GaussianMixture.from_sklearn(model)
    back = f.to_sklearn(bayesian=family is BayesianGaussianMixture)
    assert isinstance(back, family)
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(back, name), getattr(model, name), rtol=1e-12)
    again = GaussianMixture.from_sklearn(back)
    torch.testing.assert_close(again.full().covariances, f.full().covariances)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_the_density_is_scikit_learns(kind, points):
    model = Fitted(4, covariance_type=kind, random_state=0).fit(points)
    f = GaussianMixture.from_sklearn(model)
    np.testing.assert_allclose(f.log_prob(torch.from_numpy(points)).numpy(), model.score_samples(points), rtol=1e-8)
    np.testing.assert_allclose(f.to_sklearn().score_samples(points), model.score_samples(points), rtol=1e-8)
    np.testing.assert_allclose(f.to_sklearn().precisions_cholesky_, model.precisions_cholesky_, rtol=1e-8)
    assert (f.to_sklearn().predict(points) == model.predict(points)).all()


@pytest.mark.parametrize("kind", COVARIANCES)
def test_a_bayesian_mixture_made_from_ours_has_our_density(kind, points):
    f = GaussianMixture.from_sklearn(Fitted(4, covariance_type=kind, random_state=0).fit(points))
    scores = f.to_sklearn(bayesian=True).score_samples(points)
    np.testing.assert_allclose(scores, f.log_prob(torch.from_numpy(points)).numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_the_density_is_torchs_and_the_way_back_too(kind, points):
    f = GaussianMixture.from_sklearn(Fitted(4, covariance_type=kind, random_state=0).fit(points))
    there = f.to_torch()
    torch.testing.assert_close(there.log_prob(torch.from_numpy(points)), f.log_prob(torch.from_numpy(points)))
    torch.testing.assert_close(GaussianMixture.from_torch(there).full().covariances, f.full().covariances)


def test_torchs_normals_without_event_dimensions_are_in_one_dimension():
    family = MixtureSameFamily(Categorical(torch.tensor([0.3, 0.7])), Normal(torch.tensor([0.0, 2.0]), torch.ones(2)))
    f = GaussianMixture.from_torch(family)
    assert (f.dimension, f.covariance_type) == (1, "diag")
    assert GaussianMixture.from_torch(f.to_torch()).means.flatten().tolist() == [0.0, 2.0]


def test_torchs_batches_are_batches():
    parts = MultivariateNormal(torch.zeros(5, 2, 3), torch.eye(3).expand(5, 2, 3, 3))
    f = GaussianMixture.from_torch(MixtureSameFamily(Categorical(torch.ones(5, 2)), parts))
    assert (f.batch_shape, f.n_components, f.dimension) == ((5,), 2, 3)
    assert f.to_torch().batch_shape == (5,)


def test_other_families_are_refused():
    gamma = MixtureSameFamily(Categorical(torch.ones(2)), Independent(Gamma(torch.ones(2, 1), torch.ones(2, 1)), 1))
    with pytest.raises(InputError, match="must be normal distributions"):
        GaussianMixture.from_torch(gamma)


def test_an_unfitted_model_is_refused():
    with pytest.raises(InputError) as refusal:
        GaussianMixture.from_sklearn(Fitted(3))
    assert str(refusal.value) == (
        "GaussianMixture has no weights_, means_, covariances_. Give a fitted GaussianMixture of scikit-learn."
    )


def test_a_batch_has_no_scikit_learn_form():
    f = GaussianMixture(torch.ones(2, 1), torch.zeros(2, 1, 1), torch.ones(2, 1), "spherical")
    with pytest.raises(InputError, match="no batches"):
        f.to_sklearn()
