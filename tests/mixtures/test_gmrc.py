from itertools import pairwise

import numpy as np
import pytest
import torch

from attar.mixtures import CTDGMR, GMRC, Runnalls, random_mixture
from attar.mixtures.gmrc import cluster


def test_the_objective_never_grows_and_the_centres_do_move(spread):
    labels, objectives = cluster(spread, np.arange(25) % 6, 6)
    assert len(objectives) > 2
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(objectives))
    assert objectives[-1] < 0.8 * objectives[0]
    again, fixed = cluster(spread, labels, 6)
    assert (again == labels).all()
    assert len(fixed) == 1


def test_every_cluster_keeps_a_member(generator):
    f = random_mixture(12, 2, generator)
    labels, _ = cluster(f, np.array([0] * 10 + [1, 2]), 3)
    assert set(labels.tolist()) == {0, 1, 2}


def test_it_never_ends_worse_than_runnalls_in_its_objective(spread):
    runnalls = Runnalls(n_components=6).reduce(spread)
    _, objectives = cluster(spread, runnalls.assignment.numpy(), 6)
    found = GMRC(n_components=6, optimise=False).reduce(spread)
    assert found.trace[-1] <= objectives[0] + 1e-12


@pytest.mark.parametrize("count", [4, 7])
def test_transport_with_the_kl_cost_is_its_clustering(count, spread):
    clusters = GMRC(n_components=count, optimise=False).reduce(spread)
    transported = CTDGMR(n_components=count, start="runnalls").reduce(spread)
    torch.testing.assert_close(transported.mixture.means, clusters.mixture.means)
    assert torch.equal(transported.assignment, clusters.assignment)


def test_optimised_it_is_nearer(standard):
    plain, found = (GMRC(n_components=5, optimise=optimise).reduce(standard) for optimise in (False, True))
    assert found.distance(standard, "ise") < 0.1 * plain.distance(standard, "ise")
