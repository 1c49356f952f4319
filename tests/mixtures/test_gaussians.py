import numpy as np
import pytest
import torch

from attar.mixtures.distances import log_overlap
from attar.mixtures.gaussians import Gaussians, at_once, kl_table, log_pairs, log_self, log_table, merged
from attar.mixtures.merging import merge
from attar.mixtures.sources import random_mixture


@pytest.mark.parametrize("dimension", [1, 2, 4, 9, 20])
def test_the_vectorised_elimination_is_choleskys(dimension, generator):
    f, g = random_mixture(30, dimension, generator), random_mixture(40, dimension, generator)
    expected = log_overlap(f, g).numpy()
    table = log_table(Gaussians.of(f), Gaussians.of(g))
    np.testing.assert_allclose(table, expected, rtol=1e-9)
    pairs = log_pairs(Gaussians.of(f), Gaussians.of(g.select(range(30))))
    np.testing.assert_allclose(pairs, expected.diagonal(), rtol=1e-9)
    np.testing.assert_allclose(log_self(Gaussians.of(f)), log_overlap(f, f).diagonal(), rtol=1e-9)


def test_tables_larger_than_the_cache_are_made_in_portions(generator):
    f = random_mixture(3 * at_once(2) // 1000, 2, generator)
    g = random_mixture(1000, 2, generator)
    np.testing.assert_allclose(log_table(Gaussians.of(f), Gaussians.of(g)), log_overlap(f, g), rtol=1e-9)


def test_determinants_of_tiny_and_huge_covariances_stay_finite():
    covariances = np.stack([np.eye(60) * 1e-12, np.eye(60) * 1e12], axis=-1)
    parts = Gaussians.made(np.ones(2), np.zeros((60, 2)), covariances)
    np.testing.assert_allclose(parts.log_determinants, [60 * np.log(1e-12), 60 * np.log(1e12)])


def test_a_merge_preserves_weight_mean_and_covariance(generator):
    f = random_mixture(2, 3, generator)
    parts = Gaussians.of(f)
    both = merged(parts.take([0]), parts.take([1])).mixture()
    torch.testing.assert_close(both.means[0], f.mean())
    torch.testing.assert_close(both.covariances[0], f.covariance())
    torch.testing.assert_close(both.covariances, merge(f).covariances)


def test_means_that_differ_in_one_coordinate_spread_in_that_coordinate_only():
    parts = Gaussians.made(np.array([0.5, 0.5]), np.array([[0.0, 2.0], [0.0, 0.0]]), np.stack([np.eye(2)] * 2, axis=-1))
    covariance = merged(parts.take([0]), parts.take([1])).covariances[:, :, 0]
    np.testing.assert_allclose(covariance, [[2.0, 0.0], [0.0, 1.0]], atol=1e-15)


def test_two_components_without_weight_merge_as_equals():
    parts = Gaussians.made(np.zeros(2), np.array([[0.0, 2.0]]), np.ones((1, 1, 2)))
    both = merged(parts.take([0]), parts.take([1]))
    assert (both.weights[0], both.means[0, 0], both.covariances[0, 0, 0]) == (0.0, 1.0, 2.0)


def test_the_divergence_is_torchs(generator):
    f, g = random_mixture(4, 3, generator), random_mixture(5, 3, generator)
    table = kl_table(Gaussians.of(f), Gaussians.of(g))
    ones = torch.distributions.MultivariateNormal(f.means[:, None], f.covariances[:, None])
    others = torch.distributions.MultivariateNormal(g.means, g.covariances)
    np.testing.assert_allclose(table, torch.distributions.kl_divergence(ones, others), rtol=1e-9)
    np.testing.assert_allclose(kl_table(Gaussians.of(f), Gaussians.of(f)).diagonal(), 0, atol=1e-12)
