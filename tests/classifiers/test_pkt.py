import json

import pytest
import torch

import attar
from attar.classifiers.pkt import PKT, pkt_loss, probabilities
from attar.core.errors import InputError
from attar.core.runtime import Engine
from attar.images.networks.architecture import Architecture


def features(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_formula():
    student, teacher = features(0, 4, 3), features(1, 4, 7)
    total = 0.0
    for i in range(4):
        kernels = []
        for side in (student, teacher):
            kernel = [(float(torch.cosine_similarity(side[i], side[j], dim=0)) + 1) / 2 for j in range(4)]
            kernels.append(torch.tensor(kernel) / sum(kernel))
        given, wanted = kernels
        total += float((wanted * (wanted / given).log()).sum())
    assert float(pkt_loss(student, teacher)) == pytest.approx(total / 4**2, rel=1e-4)


def test_rows_are_distributions():
    found = probabilities(features(0, 6, 5))
    assert torch.allclose(found.sum(dim=1), torch.ones(6, dtype=torch.float64))
    assert (found >= 0).all()
    assert (found.diagonal() == found.max(dim=1).values).all()


def test_a_match_costs_nothing_and_pulls_nowhere():
    student = features(0, 6, 5).requires_grad_()
    loss = pkt_loss(student, student.detach())
    loss.backward()
    assert loss.abs() < 1e-12
    assert student.grad.abs().max() < 1e-6  # no less, by what is added to a probability before its logarithm
    assert pkt_loss(features(1, 6, 5), student) > 1e-4


def test_lengths_and_rotation_do_not_matter():
    student, teacher = features(0, 6, 5), features(1, 6, 8)
    lengths = torch.arange(1, 7, dtype=torch.float64)[:, None]
    turned = lengths * student @ torch.linalg.qr(features(2, 5, 5))[0]
    assert torch.isclose(pkt_loss(turned, teacher), pkt_loss(student, teacher), rtol=1e-9)
    assert pkt_loss(turned, student).abs() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_that_are_zero_or_opposite_have_a_gradient(dtype):
    student, teacher = torch.zeros(6, 5, dtype=dtype), features(1, 6, 5).to(dtype)
    student[1:3] = teacher[1] * torch.tensor([[1.0], [-1.0]], dtype=dtype)
    student.requires_grad_()
    loss = pkt_loss(student, teacher)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_it_lowers_its_term(few_digits, tmp_path):
    method = PKT(student="convnet:norm=batch,width=4", epochs=20)
    teacher = Architecture(norm="batch", width=8).build((1, 8, 8), 10, torch.Generator().manual_seed(3)).eval()
    attar.distill(few_digits, method, teacher=teacher, out=tmp_path, engine=Engine(device="cpu", quiet=True))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    curve = [json.loads(line)["probabilities"] for line in lines]
    assert curve[-1] < 0.7 * curve[0]


def test_what_it_cannot_be_told_is_refused():
    assert PKT.paper("cifar100").weight == PKT.paper("resnet50-vgg8").weight == 30000
    with pytest.raises(InputError, match="PKT has no cell of 'cifar10'"):
        PKT.paper("cifar10")
    with pytest.raises(InputError, match="weight is -1"):
        PKT(weight=-1)
