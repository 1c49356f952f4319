import math

import numpy as np
import pytest
import torch

from attar.mixtures import KINDS, GaussianMixture, Runnalls, distance, log_inner, random_mixture
from attar.mixtures.gaussians import Gaussians
from attar.mixtures.mixture import COVARIANCES
from attar.mixtures.objective import Frames, Objective
from attar.mixtures.optimise import FAMILIES, Problem


def of_kind(f, kind):
    """The same weights and means, with covariances of another kind."""
    variances = f.covariances.diagonal(dim1=1, dim2=2)
    cut = {"full": f.covariances, "tied": f.covariances.mean(0), "diag": variances, "spherical": variances.mean(1)}
    return GaussianMixture(f.weights, f.means, cut[kind], kind)


def drawn(seed, kind):
    """An original of some kind, frames that are not those of the mixture to measure, and that mixture."""
    generator = torch.Generator().manual_seed(seed)
    n, d = 2 + seed % 7, 1 + seed % 5
    f, g, start = (random_mixture(count, d, generator, spread=1.5, size=5.0) for count in (n + 4, n, n))
    return of_kind(f, kind), of_kind(g, kind), start


def plainly(f, objective, vector):
    """The definition, from the public distances, for torch to differentiate."""
    d = f.dimension
    n = len(vector) // (1 + d + d * (d + 1) // 2)
    alphas, shifts, logs, below = vector.split([n, n * d, n * d, n * d * (d - 1) // 2])
    rows, columns = torch.tril_indices(d, d, -1)
    within = torch.diag_embed(logs.view(n, d).exp())
    within = within.index_put((torch.arange(n)[:, None], rows, columns), below.view(n, -1))
    origins, factors = (torch.from_numpy(np.array(part)) for part in vars(objective.frames).values())
    means, factors = origins + (factors @ shifts.view(n, d, 1)).squeeze(-1), factors @ within
    g = GaussianMixture(alphas.softmax(0), means, factors @ factors.mT, check=False)
    log_a, log_b, log_c = log_inner(f, f), log_inner(f, g), log_inner(g, g)
    if objective.family == "rho":
        return (log_a + log_c) / 2 - log_b
    if objective.family == "nise":
        return torch.logaddexp(log_a, log_c) - log_b - math.log(2)
    return 1 + (log_c - log_a).exp() - 2 * (log_b - log_a).exp()


@pytest.mark.parametrize("covariances", COVARIANCES)
@pytest.mark.parametrize("family", sorted(set(FAMILIES.values())))
def test_value_and_gradient_are_those_of_autograd(family, covariances):
    for seed in range(10):
        f, g, start = drawn(seed, covariances)
        objective = Objective(Gaussians.of(f), family, Frames.of(Gaussians.of(start)))
        vector = objective.vector(Gaussians.of(g))
        value, gradient = objective(vector)
        given = torch.from_numpy(vector).requires_grad_()
        expected = plainly(f, objective, given)
        (slope,) = torch.autograd.grad(expected, given)
        np.testing.assert_allclose(value, float(expected.detach()), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-10, atol=1e-10 * float(slope.abs().max()))


@pytest.mark.parametrize("dimension, parts", [(3, 400), (12, 60)])
def test_large_mixtures_in_portions_have_the_same_gradient(dimension, parts):
    generator = torch.Generator().manual_seed(0)
    f, g = (random_mixture(count, dimension, generator, size=1.0) for count in (parts, parts // 4))
    problem = Problem.of(f, "nise", g)
    given = problem.vector(random_mixture(parts // 4, dimension, generator, size=1.0)).requires_grad_()
    (ours,) = torch.autograd.grad(problem.loss(given), given)
    (theirs,) = torch.autograd.grad(plainly(f, problem.objective, given), given)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_in_its_own_frames_is_nowhere(kind):
    f = random_mixture(9, 3, torch.Generator().manual_seed(1))
    start = Runnalls(n_components=4).reduce(f).mixture
    problem = Problem.of(f, kind, start)
    vector = problem.vector(start)
    torch.testing.assert_close(vector[:4], start.weights.log())
    torch.testing.assert_close(vector[4:], torch.zeros_like(vector[4:]), rtol=0, atol=1e-12)
    assert problem.distance(float(problem.loss(vector))) == pytest.approx(float(distance(f, start, kind)), rel=1e-9)


def test_the_loss_does_not_change_with_the_frames():
    f, g, start = drawn(3, "full")
    problems = [Problem.of(f, "angle", frames) for frames in (None, g, start)]
    values = [float(problem.loss(problem.vector(g))) for problem in problems]
    assert values == pytest.approx([values[0]] * 3, rel=1e-12)


def test_fainter_gaussians_take_longer_steps():
    g = GaussianMixture([0.8, 0.2, 0.0], [[0.0], [1.0], [2.0]], [[[1.0]], [[1.0]], [[1.0]]])
    problem = Problem.of(g, "angle", g)
    units = problem.objective.units(Gaussians.of(g)).reshape(3, 3)  # α, u and the log of L, component by component
    assert units[0] == pytest.approx([1, 2, 1e3**0.5])
    assert (units == units[0]).all()


def test_equal_mixtures_are_at_the_minimum():
    f = random_mixture(6, 2, torch.Generator().manual_seed(2))
    for family in ("rho", "nise", "ise"):
        objective = Objective(Gaussians.of(f), family, Frames.of(Gaussians.of(f)))
        value, gradient = objective(objective.vector(Gaussians.of(f)))
        assert abs(value) < 1e-13
        assert np.abs(gradient).max() < 1e-12


def test_far_from_everything_there_is_still_a_slope():
    f = GaussianMixture([1.0], [[0.0, 0.0]], [0.01], "spherical")
    far = GaussianMixture([1.0], [[60.0, 5.0]], [0.01], "spherical")
    problem = Problem.of(f, "angle", far)
    value, gradient = problem.objective(problem.vector(far).numpy())
    assert math.isfinite(value)
    assert np.abs(gradient[1:3]).min() > 1
