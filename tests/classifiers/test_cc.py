import json
import math

import pytest
import torch

import attar
from attar.classifiers.cc import CC, correlations, kernel_loss, neighbour_loss
from attar.classifiers.trainer import plain_loss
from attar.classifiers.watched import Answers
from attar.core.errors import InputError
from attar.core.runtime import Engine
from attar.images.networks.architecture import Architecture

QUIET = Engine(device="cpu", quiet=True)


def features(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_neighbours_are_the_formula():
    student, teacher = features(0, 5, 3), features(1, 5, 3)
    total = 0.0
    for i in range(4):
        for k in range(3):
            total += abs(float((student[i, k] - teacher[i, k]) * (student[i + 1, k] - teacher[i + 1, k])))
    assert float(neighbour_loss(student, teacher)) == pytest.approx(total / 4)


def test_a_sample_without_error_makes_its_pairs_free():
    student, teacher = features(0, 3, 4), features(1, 3, 4)
    student[1] = teacher[1]
    assert neighbour_loss(student, teacher) == 0
    assert neighbour_loss(student.flip(1), teacher) > 0


def test_the_series_goes_to_the_gaussian_kernel():
    units = torch.nn.functional.normalize(features(0, 6, 5), dim=1)
    gaussian = (-0.4 * torch.cdist(units, units).square()).exp()
    assert torch.allclose(correlations(7 * units, order=20), gaussian, atol=1e-9)
    cosines = units @ units.T
    second = math.exp(-0.8) * (1 + 0.8 * cosines + 0.32 * cosines.square())
    assert torch.allclose(correlations(units), second)


def test_the_kernels_loss_is_blind_to_lengths_rotation_and_size():
    student, teacher = features(0, 6, 5), features(1, 6, 8)
    lengths = torch.arange(1, 7, dtype=torch.float64)[:, None]
    turned = lengths * student @ torch.linalg.qr(features(2, 5, 5))[0]
    plain = (correlations(student) - correlations(teacher)).norm() ** 2 / 6**2
    assert torch.isclose(kernel_loss(student, teacher), plain)
    assert torch.isclose(kernel_loss(turned, teacher), plain)


@pytest.mark.parametrize("loss", [neighbour_loss, kernel_loss])
def test_a_match_costs_nothing_and_pulls_nowhere(loss):
    student = features(0, 6, 5).requires_grad_()
    found = loss(student, student.detach())
    found.backward()
    assert found.abs() < 1e-12
    assert student.grad.abs().max() < 1e-12


@pytest.mark.parametrize("loss", [neighbour_loss, kernel_loss])
def test_features_that_are_zero_have_a_gradient(loss):
    student = torch.zeros(6, 5, requires_grad=True)
    loss(student, features(1, 6, 5).float()).backward()
    assert student.grad.isfinite().all()


def test_neighbours_learn_an_embedding_of_both_networks_and_the_kernel_none():
    said = [Answers(torch.zeros(6, 10), features(seed, 6, size).float(), []) for seed, size in ((0, 4), (1, 7))]
    parts = CC().connectors(*said)
    assert {name: tuple(part.weight.shape) for name, part in parts.items()} == {
        "student": (128, 4),
        "teacher": (128, 7),
    }
    loss = plain_loss(CC(congruence="kernel", label_weight=0.0), *said, torch.zeros(6).long())
    assert torch.isclose(loss, 100 * kernel_loss(said[0].embedding, said[1].embedding))
    with pytest.raises(InputError, match="cc trains or remembers something beside the student"):
        plain_loss(CC(), *said, torch.zeros(6).long())


@pytest.mark.parametrize("form, weight", [("neighbours", 0.02), ("kernel", 100.0)])
def test_it_lowers_its_term_by_the_weight_of_its_form(form, weight, few_digits, tmp_path):
    method = CC(congruence=form, student="convnet:norm=batch,width=4", epochs=20)
    teacher = Architecture(norm="batch", width=8).build((1, 8, 8), 10, torch.Generator().manual_seed(3)).eval()
    made = attar.distill(few_digits, method, teacher=teacher, out=tmp_path, engine=QUIET)
    curve = [
        json.loads(line)["correlation"]
        for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert curve[-1] < 0.7 * curve[0]
    assert made.origin.settings["weight"] == weight


def test_what_it_cannot_be_told_is_refused():
    assert CC.paper("cifar100").weight == CC.paper("resnet50-vgg8").weight == 0.02
    assert CC.paper("cifar100").congruence == "neighbours"
    with pytest.raises(InputError, match="CC has no cell of 'cifar10'"):
        CC.paper("cifar10")
    with pytest.raises(InputError, match="unknown congruence 'kernle'; did you mean 'kernel'"):
        CC(congruence="kernle")
    with pytest.raises(InputError, match="taylor_order is 0; it must be at least 1"):
        CC(taylor_order=0)
