"""ND over the proposals of a detector."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attar.classifiers.nd import ClassMeans, nd_loss
from attar.classifiers.proposals import DETECTION, proposal_loss

BACKGROUND = 3


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(8, 5, generator=draw, dtype=torch.float64) for _ in range(2))
    directions = F.normalize(torch.randn(4, 5, generator=draw, dtype=torch.float64), dim=1)
    return student, teacher, torch.tensor([0, 3, 3, -1, 1, 3, -1, 2]), directions


def test_proposals_with_a_label_below_zero_do_not_count(batch):
    student, teacher, labels, directions = batch
    known = labels >= 0
    student.requires_grad_()
    loss = proposal_loss(student, teacher, labels, directions)
    assert torch.isclose(loss, nd_loss(student[known], teacher[known], labels[known], directions), atol=1e-12)
    loss.backward()
    assert student.grad[~known].abs().max() == 0
    assert student.grad[known].abs().min(dim=1).values.max() > 0


def test_the_background_may_count_less(batch):
    student, teacher, labels, directions = batch
    each = {
        row: nd_loss(student[[row]], teacher[[row]], labels[[row]], directions) for row in range(8) if labels[row] >= 0
    }
    weights = {row: 0.25 if labels[row] == BACKGROUND else 1.0 for row in each}
    wanted = sum(weights[row] * loss for row, loss in each.items()) / sum(weights.values())
    found = proposal_loss(student, teacher, labels, directions, background=BACKGROUND, background_weight=0.25)
    assert torch.isclose(found, wanted, atol=1e-12)
    alike = proposal_loss(student, teacher, labels, directions, background=BACKGROUND)
    assert torch.isclose(alike, proposal_loss(student, teacher, labels, directions), atol=1e-12)
    objects = torch.tensor([0, 4, 7])
    without = proposal_loss(student, teacher, labels, directions, background=BACKGROUND, background_weight=0.0)
    assert torch.isclose(without, nd_loss(student[objects], teacher[objects], labels[objects], directions), atol=1e-12)


def test_a_batch_of_which_nothing_counts_costs_nothing(batch):
    student, teacher, labels, directions = batch
    student.requires_grad_()
    nothing = proposal_loss(student, teacher, torch.full_like(labels, -1), directions)
    all_background = torch.full_like(labels, BACKGROUND)
    nothing = nothing + proposal_loss(
        student, teacher, all_background, directions, background=BACKGROUND, background_weight=0.0
    )
    nothing.backward()
    assert nothing == 0
    assert student.grad.abs().max() == 0


def test_a_student_turns_to_means_of_proposals_gathered_in_batches_of_any_size():
    """The whole of it, small: means of what a teacher's box head says, and a student's head that learns by them."""
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher, student = nn.Linear(6, 10), nn.Linear(6, 10)
    proposals, labels = torch.randn(90, 6, generator=draw), torch.arange(90) % 4
    proposals += 2 * F.one_hot(labels, 6)
    labels[::9] = -1
    means = ClassMeans.empty(4, 10)
    for rows in (torch.arange(1), torch.arange(1, 1), torch.arange(1, 60), torch.arange(60, 90)):
        means.add(teacher(proposals[rows]), labels[rows])
    directions, losses = means.directions(), []
    optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
    for _ in range(40):
        loss = proposal_loss(student(proposals), teacher(proposals), labels, directions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_the_published_weights():
    assert DETECTION["resnet101-resnet18"] == {"kd": (1.0, 1.5), "reviewkd": (1.2, 1.5)}
    assert DETECTION["resnet50-mobilenetv2"]["reviewkd"] == (2.2, 1.5)
    assert {direction for row in DETECTION.values() for _, direction in row.values()} == {1.0, 1.5}
