"""Distances by a matrix product equal those by differences, near zero and far from it."""

import pytest
import torch

from attar.embeddings.distances import distances, prototypes_of, smooth_distances, squared_distances


def test_they_are_the_sums_of_squared_differences(generator):
    a, b = (torch.randn(n, 5, dtype=torch.float64, generator=generator) for n in (7, 4))
    squares = (a[:, None] - b).square().sum(dim=2)
    torch.testing.assert_close(squared_distances(a, b), squares)
    torch.testing.assert_close(distances(a, b, "squared"), squares)
    torch.testing.assert_close(smooth_distances(a, b), (squares + 1e-6).sqrt())


@pytest.mark.parametrize("offset", [100.0, 1000.0])
def test_an_offset_changes_nothing_in_single_precision(offset, generator):
    a, b = torch.randn(2, 30, 8, generator=generator).unbind()
    # What rounding of the shifted points themselves costs is left.
    torch.testing.assert_close(smooth_distances(a + offset, b + offset), smooth_distances(a, b), rtol=1e-4, atol=3e-4)


def test_gradients_are_those_of_the_definition(generator):
    points = torch.randn(6, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    targets = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(smooth_distances, (points, targets))


def test_points_that_coincide_have_a_finite_gradient():
    points = torch.ones(4, 3, requires_grad=True)
    smooth_distances(points, points).sum().backward()
    assert points.grad is not None and points.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype, generator):
    a = torch.randn(6, 4, generator=generator).to(dtype)
    found = squared_distances(a, a)
    assert found.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(squared_distances(a, a), found)


def test_prototypes_are_means_by_class():
    features = torch.tensor([[0.0], [2.0], [10.0]])
    assert prototypes_of(features, torch.tensor([1, 1, 0]), 2).flatten().tolist() == [10.0, 1.0]
