import numpy as np
import pytest
import torch

from attar.mixtures import COWA, GaussianMixture, West, distance, random_mixture
from attar.mixtures.gaussians import Gaussians
from attar.mixtures.west import apart


def test_the_lightest_goes_to_its_nearest():
    f = GaussianMixture([0.05, 0.35, 0.6], [0.0, 1.0, 5.0], [1.0, 1.0, 1.0])
    assert West(n_components=2).reduce(f).assignment.tolist() == [0, 0, 1]


def test_enhanced_it_takes_the_broad_one_first():
    f = GaussianMixture([0.3, 0.35, 0.35], [0.0, 1.0, 50.0], [1.0, 1.0, 100.0])
    assert West(n_components=2, enhanced=False).reduce(f).assignment.tolist() == [0, 0, 1]
    assert West(n_components=2).reduce(f).assignment.tolist() == [0, 1, 1]


def test_neighbours_by_ise_are_those_of_unit_gaussians(generator):
    f = random_mixture(6, 2, generator)
    parts = Gaussians.of(f)
    single = [f.select([number]) for number in range(6)]
    expected = np.array([float(distance(single[0], other, "ise")) for other in single])
    gaps = apart(parts.take([0]), parts, "ise")
    np.testing.assert_allclose(gaps[1:] / gaps[1], expected[1:] / expected[1])


def test_solving_for_weights_after_each_merge_is_better_on_average():
    generator = torch.Generator().manual_seed(0)
    mixtures = [random_mixture(10, 4, generator) for _ in range(30)]
    west, cowa = (
        [method.reduce(f).distance(f, "ise") for f in mixtures]
        for method in (West(n_components=5), COWA(n_components=5))
    )
    assert np.mean(cowa) < np.mean(west)


@pytest.mark.parametrize("near", ["ise", "kl"])
def test_cowa_never_has_a_negative_weight(near, spread):
    g = COWA(n_components=4, near=near).reduce(spread).mixture
    assert (g.weights >= 0).all()
    assert float(g.weights.sum()) == pytest.approx(1)
