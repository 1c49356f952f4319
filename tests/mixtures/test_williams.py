import numpy as np
import pytest
import torch

from attar.mixtures import GaussianMixture, Williams, distance, inner, merge
from attar.mixtures.gaussians import Gaussians, log_self
from attar.mixtures.greedy import pair_costs
from attar.mixtures.williams import local_ise


def test_the_local_cost_is_the_error_of_one_merge(standard):
    parts = Gaussians.of(standard)
    unit = np.exp(log_self(parts).max())
    cost = pair_costs(parts, np.array([3]), np.array([7]), local_ise(parts))[0] * unit
    w = standard.weights
    both = standard.select([3, 7])
    assert cost == pytest.approx(float((w[3] + w[7]) ** 2 * distance(both, merge(both), "ise")), rel=1e-9)


def test_the_first_merge_of_both_is_the_same(spread):
    local, whole = (
        Williams(n_components=24, merge_cost=cost, optimise=False).reduce(spread) for cost in ("local", "global")
    )
    assert torch.equal(local.assignment, whole.assignment)


def test_the_error_in_matrices(standard):
    """ISE = wᵀ H1 w - 2 vᵀ H2 w + vᵀ H3 v, with H the overlaps of reduced and original Gaussians."""
    g = Williams(n_components=5).reduce(standard).mixture

    def overlaps(first, second):
        spread = first.covariances[:, None] + second.covariances
        normal = torch.distributions.MultivariateNormal(second.means, spread)
        return normal.log_prob(first.means[:, None]).exp()

    w, v = g.weights, standard.weights
    h1, h2, h3 = overlaps(g, g), overlaps(standard, g), overlaps(standard, standard)
    assert float(w @ h1 @ w - 2 * v @ h2 @ w + v @ h3 @ v) == pytest.approx(
        float(distance(standard, g, "ise")), abs=1e-12
    )
    assert float(v @ h3 @ v) == pytest.approx(float(inner(standard, standard)))


def test_optimising_from_the_local_start_works_too(standard):
    found = Williams(n_components=5, merge_cost="local").reduce(standard)
    assert isinstance(found.mixture, GaussianMixture)
    assert found.distance(standard, "ise") == pytest.approx(0.000170, abs=1e-6)
