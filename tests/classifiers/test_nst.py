import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import attar
from attar.classifiers.fitnets import at_one_size
from attar.classifiers.nst import NST, by_channels, by_places, nst_loss, patterns
from attar.core.errors import InputError
from attar.core.runtime import Engine
from attar.images.networks.architecture import Architecture

QUIET = Engine(device="cpu", quiet=True)
SHAPES = [((3, 4, 4), (7, 4, 4)), ((9, 2, 2), (12, 2, 2)), ((5, 6, 1), (5, 6, 1))]


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(student, teacher):
    """The kernel of every pair of channels, one by one."""
    x, y = (F.normalize(side.flatten(2), dim=2) for side in (student, teacher))

    def kernel(a, b):
        return (a[:, :, None] * b[:, None]).sum(dim=3).square().mean()

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


@pytest.mark.parametrize("student, teacher", SHAPES)
def test_both_ways_are_the_formula(student, teacher):
    student, teacher = maps(0, 5, *student), maps(1, 5, *teacher)
    wanted = plain(student, teacher)
    assert torch.isclose(nst_loss(student, teacher), wanted, rtol=1e-12)
    for way in (by_places, by_channels):
        assert torch.isclose(way(patterns(student), patterns(teacher)), wanted, rtol=1e-12)


@pytest.mark.parametrize("student, teacher", SHAPES)
def test_both_ways_have_its_gradient(student, teacher):
    student, teacher = maps(0, 5, *student).requires_grad_(), maps(1, 5, *teacher)
    (wanted,) = torch.autograd.grad(plain(student, teacher), student)
    for way in (by_places, by_channels):
        (found,) = torch.autograd.grad(way(patterns(student), patterns(teacher)), student)
        assert torch.allclose(found, wanted, atol=1e-14)


@pytest.mark.parametrize("shape", [(3, 4, 4), (9, 2, 2)])
def test_the_smaller_matrices_are_those_that_are_made(shape, monkeypatch):
    way = "by_places" if shape[0] == 9 else "by_channels"
    monkeypatch.setattr(f"attar.classifiers.nst.{way}", lambda student, teacher: torch.tensor(7.0))
    assert nst_loss(maps(0, 2, *shape), maps(1, 2, *shape)) == 7


@pytest.mark.parametrize("shape", [(5, 4, 4), (9, 2, 2)])
def test_a_match_costs_nothing_and_pulls_nowhere(shape):
    student = maps(0, 3, *shape).requires_grad_()
    loss = nst_loss(student, student.detach())
    loss.backward()
    assert loss.abs() < 1e-12
    assert student.grad.abs().max() < 1e-12


def test_order_scale_and_number_of_channels_do_not_matter():
    student, teacher = maps(0, 3, 5, 4, 4), maps(1, 3, 7, 4, 4)
    scales = torch.tensor([3.0, 0.1, 1.0, 7.0, 2.0], dtype=torch.float64)[:, None, None]
    moved = (scales * student)[:, [4, 2, 0, 1, 3]]
    assert torch.isclose(nst_loss(moved, teacher), nst_loss(student, teacher), rtol=1e-9)
    assert nst_loss(torch.cat([student, moved], dim=1), student).abs() < 1e-12
    assert nst_loss(student, teacher) > 1e-3


def test_the_larger_map_is_pooled_to_the_smaller():
    large, small = maps(0, 2, 3, 8, 8), maps(1, 2, 6, 4, 4)
    pooled = F.avg_pool2d(large, 2)
    assert torch.isclose(nst_loss(large, small), nst_loss(pooled, small))
    assert torch.isclose(nst_loss(small, large), nst_loss(small, pooled))
    assert [tuple(side.shape[2:]) for side in at_one_size(maps(0, 2, 1, 3, 8), small)] == [(3, 4), (3, 4)]


@pytest.mark.parametrize("shape", [(5, 4, 4), (9, 2, 2)])
def test_channels_that_are_zero_have_a_gradient(shape):
    student = maps(0, 3, *shape).float()
    student[:, 0] = 0
    student[0] = 0
    student.requires_grad_()
    loss = nst_loss(student, maps(1, 3, *shape).float())
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_it_lowers_its_term(few_digits, tmp_path):
    method = NST(student="convnet:norm=batch,width=4", epochs=20)
    teacher = Architecture(norm="batch", width=8).build((1, 8, 8), 10, torch.Generator().manual_seed(3)).eval()
    attar.distill(few_digits, method, teacher=teacher, out=tmp_path, engine=QUIET)
    curve = [
        json.loads(line)["selectivity"]
        for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert curve[-1] < 0.7 * curve[0]


def test_what_it_cannot_compare_is_refused(few_digits):
    assert NST.paper("cifar100").weight == NST.paper("resnet50-vgg8").weight == 50
    with pytest.raises(InputError, match="NST has no cell of 'cifar10'"):
        NST.paper("cifar10")
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(2))
    with pytest.raises(InputError, match="nst compares maps, but no layers are known"):
        attar.distill(few_digits, NST(epochs=1), teacher=teacher, student=student, engine=QUIET)
