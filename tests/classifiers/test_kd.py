import pytest
import torch
import torch.nn.functional as F

from attar.classifiers.kd import kd_loss, standardised


@pytest.fixture
def pair():
    draw = torch.Generator().manual_seed(0)
    return [3 * torch.randn(7, 5, generator=draw, dtype=torch.float64) for _ in range(2)]


def test_a_match_costs_nothing_and_pulls_nowhere(pair):
    student = pair[0].clone().requires_grad_()
    loss = kd_loss(student, pair[0])
    loss.backward()
    assert loss.abs() < 1e-12
    assert student.grad.abs().max() < 1e-12


def test_the_gradient_is_the_difference_of_probabilities(pair):
    student, teacher, temperature = pair[0].requires_grad_(), pair[1], 4.0
    kd_loss(student, teacher, temperature).backward()
    p, q = (F.softmax(z.detach() / temperature, dim=1) for z in (teacher, student))
    assert torch.allclose(student.grad, temperature * (q - p) / 7, atol=1e-12)


def test_a_hot_limit_is_the_squared_error_of_centred_logits(pair):
    student, teacher = (z - z.mean(dim=1, keepdim=True) for z in pair)
    limit = (student - teacher).square().sum(dim=1).mean() / (2 * 5)
    assert torch.isclose(kd_loss(*pair, temperature=1e4), limit, rtol=1e-3)


def test_a_constant_added_to_logits_does_not_matter(pair):
    student, teacher = pair
    assert torch.isclose(kd_loss(student + 5, teacher - 2), kd_loss(student, teacher), atol=1e-12)


def test_no_gradient_reaches_the_teacher(pair):
    teacher = pair[1].requires_grad_()
    assert not kd_loss(pair[0], teacher).requires_grad


def test_standardised_logits_forget_scale_and_shift(pair):
    logits = pair[0]
    assert torch.allclose(standardised(3 * logits + 2), standardised(logits), atol=1e-6)
    assert torch.allclose(standardised(logits).mean(dim=1), torch.zeros(7, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(standardised(logits).std(dim=1), torch.ones(7, dtype=torch.float64), atol=1e-6)
    assert not torch.allclose(standardised(-logits), standardised(logits))
