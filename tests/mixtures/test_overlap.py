import pytest
import torch

from attar.mixtures import distances
from attar.mixtures.overlap import log_overlap
from attar.mixtures.sources import random_mixture


def tensors(f, g):
    return f.means, f.covariances, g.means, g.covariances


@pytest.mark.parametrize("dimension", [1, 2, 4, 9])
def test_it_is_the_plain_one(dimension, generator):
    f, g = random_mixture(7, dimension, generator), random_mixture(5, dimension, generator)
    torch.testing.assert_close(log_overlap(*tensors(f, g)), distances.log_overlap(f, g))


def test_its_derivatives_are_the_plain_ones(generator):
    f, g = random_mixture(6, 3, generator), random_mixture(4, 3, generator)
    slope = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    given = [tensor.clone().requires_grad_() for tensor in tensors(f, g)]
    fast = torch.autograd.grad((log_overlap(*given) * slope).sum(), given)
    one, two = (type(f)(f.weights, *given[:2], check=False), type(g)(g.weights, *given[2:], check=False))
    plain = torch.autograd.grad((distances.log_overlap(one, two) * slope).sum(), given)
    for ours, theirs in zip(fast, plain, strict=True):
        symmetric = (theirs + theirs.mT) / 2 if theirs.ndim == 3 else theirs
        torch.testing.assert_close(ours, symmetric)


def test_its_derivatives_are_those_of_finite_differences(generator):
    f, g = random_mixture(3, 2, generator), random_mixture(2, 2, generator)

    def overlap(means, factors):
        return log_overlap(f.means, f.covariances, means, factors @ factors.mT)

    given = [g.means.clone().requires_grad_(), torch.linalg.cholesky(g.covariances).requires_grad_()]
    assert torch.autograd.gradcheck(overlap, given)


def test_a_mixture_against_itself_has_both_sides_derivatives(generator):
    f = random_mixture(3, 2, generator)
    means = f.means.clone().requires_grad_()
    (fast,) = torch.autograd.grad(log_overlap(means, f.covariances, means, f.covariances).exp().sum(), means)
    mixture = type(f)(f.weights, means, f.covariances, check=False)
    (plain,) = torch.autograd.grad(distances.log_overlap(mixture, mixture).exp().sum(), means)
    torch.testing.assert_close(fast, plain)
