import numpy as np
import pytest
import torch

from attar.classifiers.dist import correlation, dist_losses


def rows(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_correlation_is_pearsons():
    first, second = rows(0, 3, 9), rows(1, 3, 9)
    wanted = [np.corrcoef(a, b)[0, 1] for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    assert torch.allclose(correlation(first, second), torch.tensor(wanted), atol=1e-8)


def test_correlation_forgets_positive_affine_maps():
    first, second = rows(0, 3, 9), rows(1, 3, 9)
    moved = first * torch.tensor([[2.0], [0.1], [7.0]]) + torch.tensor([[1.0], [-3.0], [0.0]])
    assert torch.allclose(correlation(moved, second), correlation(first, second), atol=1e-8)
    assert torch.allclose(correlation(-first, second), -correlation(first, second), atol=1e-12)


def test_a_match_costs_nothing_and_pulls_nowhere():
    student = rows(2, 6, 4).requires_grad_()
    losses = dist_losses(student, student.detach())
    sum(losses).backward()
    assert all(loss.abs() < 1e-6 for loss in losses)
    assert student.grad.abs().max() < 1e-6


def test_the_two_terms_look_along_rows_and_along_columns():
    student, teacher = rows(3, 6, 4), rows(4, 6, 4)
    p, q = teacher.softmax(dim=1), student.softmax(dim=1)
    between, within = dist_losses(student, teacher)
    assert torch.isclose(between, 1 - correlation(q, p).mean())
    assert torch.isclose(within, 1 - correlation(q.T, p.T).mean())
    hot = dist_losses(student, teacher, temperature=4.0)
    assert torch.isclose(hot[0], 16 * (1 - correlation((student / 4).softmax(1), (teacher / 4).softmax(1)).mean()))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5, 0.0])
def test_a_small_number_is_added_to_the_lengths_and_does_not_replace_them(scale):
    """The authors' form, value and gradient, where outputs hardly vary: a clamp differs by up to a half there."""
    first, second = (scale * rows(5, 4, 7)).requires_grad_(), rows(6, 4, 7)
    found = correlation(first, second)
    a, b = (one - one.mean(dim=1, keepdim=True) for one in (first, second))
    wanted = torch.stack([x @ y / (x.norm() * y.norm() + 1e-8) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    one, two = (torch.autograd.grad(value.sum(), first, retain_graph=True)[0] for value in (found, wanted))
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_a_class_that_nobody_expects_counts_little():
    """Two samples whose outputs for a class differ by 1e-9: the product of lengths is below ε."""
    student = torch.tensor([[1.0, 0.0, -20.0], [0.0, 1.0, -20.5]], dtype=torch.float64)
    teacher = student + torch.tensor([0.0, 0.0, -1.0])
    given, wanted = student.softmax(dim=1).T, teacher.softmax(dim=1).T
    assert correlation(given, wanted)[2] < 0.01
    assert (correlation(given, wanted)[:2] > 0.99).all()
