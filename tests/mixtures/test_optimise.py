from itertools import pairwise

import pytest
import torch

from attar.core.errors import InputError
from attar.mixtures import KINDS, GaussianMixture, Runnalls, distance, random_mixture
from attar.mixtures.optimise import NOTHING, Problem, best_of, family_of, optimised, without_empty
from attar.mixtures.reduction import Reduction


@pytest.fixture(scope="module")
def pair():
    f = random_mixture(8, 2, torch.Generator().manual_seed(11))
    return f, Runnalls(n_components=3).reduce(f)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_stands_for_the_distance(kind, pair):
    f, start = pair
    problem = Problem.of(f, kind)
    loss = float(problem.loss(problem.vector(start.mixture)))
    assert problem.distance(loss) == pytest.approx(float(distance(f, start.mixture, kind)), rel=1e-9)


@pytest.mark.parametrize("kind", ["angle", "nise", "ise"])
def test_its_gradient_is_that_of_finite_differences(kind, pair):
    f, start = pair
    problem = Problem.of(f, kind)
    assert torch.autograd.gradcheck(problem.loss, [problem.vector(start.mixture).requires_grad_()])


def test_parameters_and_mixture_are_each_others_inverse(pair):
    f, start = pair
    problem = Problem.of(f, "angle")
    back = problem.mixture(problem.vector(start.mixture))
    for one, other in zip(back.tensors().values(), start.mixture.tensors().values(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_nearer_than_it_began_in_its_own_criterion(kind, pair):
    f, start = pair
    end = optimised(f, start, kind)
    before, after = (one.distance(f, kind) for one in (start, end))
    assert after < 0.9 * before
    assert end.trace[: len(start.trace)] == start.trace
    path = end.trace[len(start.trace) :]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(path))
    assert path[-1] == pytest.approx(after, rel=1e-6)
    assert end.evaluations > start.evaluations + len(path)


def test_hardly_overlapping_mixtures_still_come_together():
    f = GaussianMixture([0.5, 0.5], [[0.0, 0.0], [1.0, 0.0]], [0.01, 0.01], "spherical")
    far = GaussianMixture([1.0], [[60.0, 5.0]], [0.01], "spherical").full()
    assert float(distance(f, far)) == pytest.approx(torch.pi / 2)
    end = optimised(f, Reduction(far, torch.zeros(2, dtype=torch.long), (), 0), "angle")
    assert end.distance(f) < 1.3


def test_one_gaussian_for_a_symmetric_mixture_keeps_the_mean():
    f = GaussianMixture([0.3, 0.4, 0.3], [-1.0, 0.0, 1.0], [0.3, 0.2, 0.3])
    end = optimised(f, Runnalls(n_components=1).reduce(f), "ise")
    assert float(end.mixture.means) == pytest.approx(0, abs=1e-6)


def test_the_best_of_several_starts_is_taken(pair):
    f, start = pair
    other = Reduction(f.select([0, 1, 2]), torch.tensor([0, 1, 2, 0, 0, 0, 0, 0]), (), 0)
    ends = [optimised(f, one, "nise", iterations=50) for one in (start, other)]
    best = best_of(f, [start, other], "nise", iterations=50)
    assert best.distance(f, "nise") == min(end.distance(f, "nise") for end in ends)
    assert best.evaluations == sum(end.evaluations for end in ends)


def test_components_of_no_weight_are_dropped_and_their_members_go_to_the_nearest(pair):
    f, start = pair
    weights = torch.tensor([1 - NOTHING / 2 - 0.5, NOTHING / 2, 0.5], dtype=torch.float64)
    light = GaussianMixture(weights, start.mixture.means, start.mixture.covariances)
    left = without_empty(f, Reduction(light, start.assignment, (), 0))
    assert left.mixture.n_components == 2
    assert float(left.mixture.weights.sum()) == pytest.approx(1)
    assert set(left.assignment.tolist()) <= {0, 1}
    assert (left.assignment[start.assignment == 2] == 1).all()


def test_units_do_not_matter(pair):
    f, start = pair
    big = torch.eye(2, dtype=torch.float64) * 1e6
    nothing = torch.zeros(2, dtype=torch.float64)
    scaled = Reduction(start.mixture.affine(big, nothing), start.assignment, (), 0)
    here, there = optimised(f, start, "ise"), optimised(f.affine(big, nothing), scaled, "ise")
    torch.testing.assert_close(there.mixture.means, here.mixture.means * 1e6, rtol=1e-3, atol=1.0)


def test_an_unknown_criterion_is_refused():
    with pytest.raises(InputError, match="unknown distance 'kl'"):
        family_of("kl")
