import pytest
import torch

from attar.classifiers.sp import SP, similarities, similarity_loss
from attar.core.errors import InputError


def features(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_formula():
    student, teacher = features(0, 5, 3, 4, 4), features(1, 5, 7, 2, 2)
    grams = []
    for maps in (student, teacher):
        gram = maps.flatten(1) @ maps.flatten(1).T
        grams.append(gram / gram.norm(dim=1, keepdim=True))
    assert torch.isclose(similarity_loss(student, teacher), (grams[0] - grams[1]).norm() ** 2 / 5**2)


def test_a_match_costs_nothing_and_pulls_nowhere():
    student = features(0, 5, 3, 4, 4).requires_grad_()
    loss = similarity_loss(student, student.detach())
    loss.backward()
    assert loss.abs() < 1e-12
    assert student.grad.abs().max() < 1e-12


def test_scale_rotation_and_order_of_channels_do_not_matter():
    student = features(0, 5, 6)
    turned = 3 * student @ torch.linalg.qr(features(1, 6, 6))[0]
    assert torch.allclose(similarities(turned), similarities(student), atol=1e-9)


def test_it_takes_no_other_table():
    assert SP.paper("cifar100").weight == 3000
    with pytest.raises(InputError, match="SP has no cell of 'cifar10'"):
        SP.paper("cifar10")
