import pytest
import torch
import torch.nn.functional as F

from attar.classifiers.dkd import DKD, decoupled, dkd_loss
from attar.classifiers.kd import kd_loss, standardised
from attar.classifiers.trainer import plain_loss
from attar.classifiers.watched import Answers


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(1)
    logits = [3 * torch.randn(6, 4, generator=draw, dtype=torch.float64) for _ in range(2)]
    return *logits, torch.randint(4, (6,), generator=draw)


def test_the_parts_make_up_the_divergence(batch):
    student, teacher, labels = batch
    target, rest, right = decoupled(student, teacher, labels, 1.0)
    whole = F.kl_div(F.log_softmax(student, 1), F.softmax(teacher, 1), reduction="none").sum(dim=1)
    assert torch.allclose(target + (1 - right) * rest, whole, atol=1e-12)


def test_weights_by_sample_give_kd_back(batch):
    student, teacher, labels = batch
    _, _, right = decoupled(student, teacher, labels, 4.0)
    assert torch.isclose(dkd_loss(student, teacher, labels, beta=1 - right), kd_loss(student, teacher), atol=1e-12)


def test_a_match_costs_nothing_and_pulls_nowhere(batch):
    student, _, labels = batch
    moved = student.clone().requires_grad_()
    loss = dkd_loss(moved, student, labels)
    loss.backward()
    assert loss.abs() < 1e-12
    assert moved.grad.abs().max() < 1e-12


def test_standardised_logits_forget_scale_and_shift(batch):
    student, teacher, labels = batch
    found = [
        plain_loss(DKD(standardise=True), Answers(z, z, []), Answers(teacher, teacher, []), labels)
        for z in (student, 3 * student + 2)
    ]
    hard = [F.cross_entropy(z, labels) for z in (student, 3 * student + 2)]
    assert torch.isclose(found[0] - hard[0], found[1] - hard[1], atol=1e-5)
    wanted = dkd_loss(standardised(student), standardised(teacher), labels)
    assert torch.isclose(found[0] - hard[0], wanted)


def test_two_classes_have_nothing_to_rank(batch):
    student, teacher, labels = batch
    _, rest, _ = decoupled(student[:, :2], teacher[:, :2], labels % 2, 1.0)
    assert torch.equal(rest, torch.zeros_like(rest))


def test_a_teacher_that_is_all_but_sure_does_no_harm():
    teacher = torch.tensor([[200.0, 0.0, -3.0]])
    student = torch.tensor([[0.0, 150.0, 2.0]], requires_grad=True)
    loss = dkd_loss(student, teacher, torch.tensor([0]), temperature=1.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
