import numpy as np
import pytest
import torch

from attar.mixtures import Salmond, random_mixture
from attar.mixtures.gaussians import Gaussians
from attar.mixtures.greedy import pair_costs
from attar.mixtures.salmond import moved_spread


def test_the_costs_add_up_to_the_spread_that_merging_moves(spread):
    """tr(P_0⁻¹ ΔW) of a merge is how much the mean covariance inside components grows, in units of P_0."""
    found = Salmond(n_components=5).reduce(spread)

    def inside(f):
        return torch.einsum("n,nde->de", f.weights, f.covariances)

    moved = torch.linalg.solve(spread.covariance(), inside(found.mixture) - inside(spread)).trace()
    assert sum(found.trace) == pytest.approx(float(moved), rel=1e-9)


def test_it_does_not_see_covariances(generator):
    f = random_mixture(6, 2, generator)
    cost = moved_spread(np.eye(2))
    parts = Gaussians.of(f)
    wider = Gaussians.made(parts.weights, parts.means, parts.covariances * 3)
    i, j = np.triu_indices(6, 1)
    np.testing.assert_array_equal(pair_costs(parts, i, j, cost), pair_costs(wider, i, j, cost))


def test_an_affine_map_changes_no_merge(spread):
    matrix = torch.tensor([[2.0, 0.4, 0.0], [0.0, 0.1, 0.0], [1.0, 0.0, 5.0]], dtype=torch.float64)
    moved = spread.affine(matrix, torch.ones(3, dtype=torch.float64))
    assert torch.equal(*(Salmond(n_components=6).reduce(f).assignment for f in (spread, moved)))
