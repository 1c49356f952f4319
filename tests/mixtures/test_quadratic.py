import numpy as np
import pytest
import torch
from scipy.optimize import minimize, nnls

from attar.mixtures import GaussianMixture, best_weights, distance, random_mixture
from attar.mixtures.gaussians import Gaussians
from attar.mixtures.quadratic import nonnegative_minimum, simplex_minimum, solve_weights

KIND = {"rho": "angle", "nise": "nise", "ise": "ise"}


def programme(seed, size=8):
    draw = np.random.default_rng(seed)
    matrix, target = draw.normal(size=(12, size)), draw.normal(size=12)
    return matrix, target, matrix.T @ matrix, matrix.T @ target


@pytest.mark.parametrize("seed", range(8))
def test_over_the_cone_it_is_non_negative_least_squares(seed):
    matrix, target, gram, right = programme(seed)
    np.testing.assert_allclose(nonnegative_minimum(gram, right), nnls(matrix, target)[0], atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_over_the_simplex_no_general_solver_does_better(seed):
    _, _, gram, right = programme(seed)
    ours = simplex_minimum(gram, right)
    value = ours @ gram @ ours - 2 * right @ ours
    rival = minimize(
        lambda w: w @ gram @ w - 2 * right @ w,
        np.full(8, 1 / 8),
        jac=lambda w: 2 * (gram @ w - right),
        bounds=[(0, 1)] * 8,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(8)},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert (ours >= 0).all()
    assert ours.sum() == pytest.approx(1)
    assert value <= rival.fun + 1e-9


def test_equal_gaussians_may_share_their_weight_in_any_way(spread):
    doubled = GaussianMixture(*(torch.cat([tensor, tensor]) for tensor in spread.tensors().values()), check=False)
    weights = solve_weights(Gaussians.of(spread), Gaussians.of(doubled), "ise")
    np.testing.assert_allclose(weights[:25] + weights[25:], spread.weights, atol=1e-6)


@pytest.mark.parametrize("family", KIND)
def test_the_original_weights_are_found_again(family, spread):
    wrong = GaussianMixture(spread.weights.flip(0), spread.means, spread.covariances)
    torch.testing.assert_close(best_weights(spread, wrong, family).weights, spread.weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", KIND)
def test_no_other_weights_are_closer(family, generator):
    f = random_mixture(10, 2, generator)
    g = best_weights(f, f.select([0, 2, 4, 6, 8]), family)
    best = float(distance(f, g, KIND[family]))
    for _ in range(60):
        noise = 0.05 * torch.rand(5, dtype=torch.float64, generator=generator)
        weights = g.weights * (1 - noise.sum()) + noise
        other = GaussianMixture(weights, g.means, g.covariances)
        assert best <= float(distance(f, other, KIND[family])) + 1e-12
    with_zeros = (g.weights == 0).sum()
    assert (g.weights >= 0).all()
    assert float(g.weights.sum()) == pytest.approx(1)
    assert with_zeros < 5


@pytest.mark.parametrize("seed", range(8))
def test_where_it_starts_does_not_matter(seed):
    _, _, gram, right = programme(seed)
    cold = simplex_minimum(gram, right)
    for start in (np.full(8, 1 / 8), np.random.default_rng(seed).dirichlet(np.ones(8)), np.eye(8)[3], cold):
        np.testing.assert_allclose(simplex_minimum(gram, right, start), cold, atol=1e-12)
