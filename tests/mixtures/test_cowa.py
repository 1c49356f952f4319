import numpy as np
import pytest
import torch

from attar.mixtures import COWA, random_mixture
from attar.mixtures.cowa import Adaptation
from attar.mixtures.gaussians import Gaussians
from attar.mixtures.quadratic import solve_weights
from attar.mixtures.west import merge_lightest


@pytest.mark.parametrize("near", ["ise", "kl"])
@pytest.mark.parametrize("components, dimension, seed", [(10, 4, 0), (30, 3, 1), (40, 2, 2), (25, 1, 3)])
def test_new_rows_and_old_weights_give_what_starting_anew_gives(components, dimension, seed, near):
    f = Gaussians.of(random_mixture(components, dimension, torch.Generator().manual_seed(seed)))
    anew = merge_lightest(f, 4, near=near, adapt=lambda parts, *_: solve_weights(f, parts, "ise"))
    found = merge_lightest(f, 4, near=near, adapt=Adaptation(f))
    assert found.labels.tolist() == anew.labels.tolist()
    np.testing.assert_allclose(found.trace, anew.trace, rtol=0, atol=1e-9)
    for ours, theirs in zip(vars(found.components).values(), vars(anew.components).values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_component_that_lost_its_weight_is_merged_without_a_trace():
    f = random_mixture(12, 2, torch.Generator().manual_seed(4))
    found = COWA(n_components=3).reduce(f)
    assert float(found.mixture.weights.sum()) == pytest.approx(1)
    assert sorted(set(found.assignment.tolist())) == [0, 1, 2]
