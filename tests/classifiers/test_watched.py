import pytest
import torch
from torch import nn

from attar.classifiers.watched import Watched, last_linear
from attar.core.errors import InputError
from attar.images.networks import Architecture


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


def test_what_it_cannot_show_is_refused():
    with pytest.raises(InputError, match=r"unknown module 'body\.9'; did you mean 'body"):
        Watched(Foreign(), ["body.9"])
    with pytest.raises(InputError, match="ends in no linear layer"):
        last_linear(nn.Sequential(nn.Conv2d(1, 2, 3)))
    with pytest.raises(InputError, match=r"gives \[5\] for a sample"):
        _ = Watched(Foreign(), ["head"])(images()).shapes


def test_trying_leaves_the_mode():
    network = own().train()
    assert Watched(network).tried((1, 8, 8), torch.device("cpu")).logits.shape == (2, 5)
    assert network.training
