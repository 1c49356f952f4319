import pytest
import torch
from torch import nn

from attar.classifiers.watched import BEFORE, Watched, last_linear
from attar.core.errors import InputError
from attar.images.networks.architecture import Architecture, parse


def images():
    return torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def own():
    return Architecture(width=4, norm="batch").build((1, 8, 8), 5, torch.Generator().manual_seed(1)).eval()


class Foreign(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1))
        self.head = nn.Linear(6, 5)

    def forward(self, pixel_values):
        return self.head(self.body(pixel_values).mean(dim=(2, 3)))


def test_attars_own_networks_are_asked():
    network = own()
    said = Watched(network)(images())
    assert torch.equal(said.logits, network(images()))
    assert torch.equal(network.classifier(said.embedding), said.logits)
    assert said.shapes == [(4, 8, 8), (4, 4, 4)]


def test_any_other_is_watched_and_left_as_it_was():
    network = Foreign()
    watched = Watched(network, ["body.0", "body.2"])
    said = watched(images())
    assert torch.equal(said.logits, network(images()))
    assert torch.equal(network.head(said.embedding), said.logits)
    assert said.shapes == [(4, 8, 8), (6, 4, 4)]
    assert torch.equal(watched({"pixel_values": images()}).logits, said.logits)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_names_of_layers_win_over_asking():
    said = Watched(own(), ["blocks.1"])(images())
    assert said.shapes == [(4, 4, 4)]


def test_a_network_of_the_benchmark_shows_its_stages_before_their_activation():
    network = parse("resnet8").build((1, 8, 8), 5, torch.Generator().manual_seed(1)).eval()
    after, before = Watched(network)(images()), Watched(network, [BEFORE])(images())
    for active, linear in zip(after.stages, before.stages, strict=True):
        assert linear.min() < 0
        assert torch.equal(linear.relu(), active)
    assert torch.equal(after.embedding, before.embedding)
    assert torch.equal(after.logits, before.logits)


def test_one_that_cannot_tell_shows_them_as_they_are_and_a_foreign_one_is_refused():
    said = Watched(own(), [BEFORE])(images())
    assert said.shapes == [(4, 8, 8), (4, 4, 4)]
    with pytest.raises(
        InputError, match=r"before-activation works only for attar's own networks\. Name layers of this"
    ):
        Watched(Foreign(), [BEFORE])


def test_what_it_cannot_show_is_refused():
    with pytest.raises(InputError, match=r"unknown module 'body\.9'; did you mean 'body"):
        Watched(Foreign(), ["body.9"])
    with pytest.raises(InputError, match="has no linear layer"):
        last_linear(nn.Sequential(nn.Conv2d(1, 2, 3)))
    with pytest.raises(InputError, match=r"gives \[5\] for each sample"):
        _ = Watched(Foreign(), ["head"])(images()).shapes


def test_trying_leaves_the_mode():
    network = own().train()
    assert Watched(network).tried((1, 8, 8), torch.device("cpu")).logits.shape == (2, 5)
    assert network.training
