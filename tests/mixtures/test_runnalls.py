import numpy as np

from attar.mixtures import Runnalls, random_mixture
from attar.mixtures.gaussians import Gaussians, kl_table, merged
from attar.mixtures.greedy import pair_costs
from attar.mixtures.runnalls import kl_bound


def all_pairs(f):
    parts = Gaussians.of(f)
    i, j = np.triu_indices(len(parts), 1)
    return parts, i, j


def test_the_cost_is_never_negative_and_zero_for_equal_gaussians(spread):
    parts, i, j = all_pairs(spread)
    assert (pair_costs(parts, i, j, kl_bound) > 0).all()
    assert pair_costs(parts, i, i, kl_bound).max() < 1e-14


def test_it_is_the_weighted_divergence_of_both_from_their_merge(spread):
    parts, i, j = all_pairs(spread)
    first, second = parts.take(i), parts.take(j)
    merge = merged(first, second)
    expected = first.weights * kl_table(first, merge).diagonal() + second.weights * kl_table(second, merge).diagonal()
    np.testing.assert_allclose(pair_costs(parts, i, j, kl_bound), expected, rtol=1e-8)


def test_the_order_of_the_components_does_not_matter(generator):
    f = random_mixture(12, 2, generator)
    one, other = (Runnalls(n_components=4).reduce(g) for g in (f, f.select(range(11, -1, -1))))
    assert one.assignment.flip(0).unique(return_inverse=True)[1].shape == (12,)
    means = [found.mixture.means[found.mixture.means[:, 0].argsort()] for found in (one, other)]
    np.testing.assert_allclose(*means, rtol=1e-9)
