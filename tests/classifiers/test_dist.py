import numpy as np
import torch

from attar.classifiers.dist import correlation, dist_losses


def rows(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_correlation_is_pearsons():
    first, second = rows(0, 3, 9), rows(1, 3, 9)
    wanted = [np.corrcoef(a, b)[0, 1] for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    assert torch.allclose(correlation(first, second), torch.tensor(wanted), atol=1e-12)


def test_correlation_forgets_positive_affine_maps():
    first, second = rows(0, 3, 9), rows(1, 3, 9)
    moved = first * torch.tensor([[2.0], [0.1], [7.0]]) + torch.tensor([[1.0], [-3.0], [0.0]])
    assert torch.allclose(correlation(moved, second), correlation(first, second), atol=1e-12)
    assert torch.allclose(correlation(-first, second), -correlation(first, second), atol=1e-12)


def test_a_match_costs_nothing_and_pulls_nowhere():
    student = rows(2, 6, 4).requires_grad_()
    losses = dist_losses(student, student.detach())
    sum(losses).backward()
    assert all(loss.abs() < 1e-12 for loss in losses)
    assert student.grad.abs().max() < 1e-10


def test_the_two_terms_look_along_rows_and_along_columns():
    student, teacher = rows(3, 6, 4), rows(4, 6, 4)
    p, q = teacher.softmax(dim=1), student.softmax(dim=1)
    between, within = dist_losses(student, teacher)
    assert torch.isclose(between, 1 - correlation(q, p).mean())
    assert torch.isclose(within, 1 - correlation(q.T, p.T).mean())
    hot = dist_losses(student, teacher, temperature=4.0)
    assert torch.isclose(hot[0], 16 * (1 - correlation((student / 4).softmax(1), (teacher / 4).softmax(1)).mean()))
