import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import attar
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.images import layout
from attar.images.networks.architecture import Architecture, from_factory
from attar.images.repeats import accuracy, trainings
from attar.images.training import TrainNetwork
from images.helpers import NARROW, PLAIN, assert_same, parameters, train

# Many networks.


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_network_trained_after_others_equals_one_trained_alone(norm, shapes, engine):
    method = TrainNetwork(
        architecture=Architecture(width=8, norm=norm), protocol=dataclasses.replace(PLAIN, augmented=True)
    ).resolve(shapes)
    runtime = Runtime(engine, 7)
    for repeat, network in enumerate(trainings(method, shapes, runtime, repeats=3)):
        alone, _ = train(method, shapes, Runtime(engine, derived_seed(7, f"repeat {repeat}")))
        assert not network.training
        assert_same(network, alone.network, rtol=0, atol=0)


def test_the_i_th_network_starts_alike_whatever_the_examples(shapes, engine):
    still = dataclasses.replace(PLAIN, epochs=1, lr=0.0)
    both = []
    for examples in (shapes, shapes.subset(torch.arange(0, 60, 3))):
        method = TrainNetwork(architecture=NARROW, protocol=still).resolve(examples)
        both.append([parameters(network) for network in trainings(method, examples, Runtime(engine, 2), repeats=2)])
    torch.testing.assert_close(both[0], both[1], rtol=0, atol=0)
    assert not torch.equal(both[0][0]["classifier.weight"], both[0][1]["classifier.weight"])


def test_networks_of_ones_own_are_trained_from_their_seeds(shapes, engine):
    def build(seed):
        return from_factory(
            lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(768, classes)), (3, 16, 16), 3, seed
        )

    method = TrainNetwork(protocol=dataclasses.replace(PLAIN, lr=0.0)).resolve(shapes)
    networks = list(trainings(method, shapes, Runtime(engine, 2), repeats=2, build=build))
    for repeat, network in enumerate(networks):
        assert_same(network, build(derived_seed(2, f"repeat {repeat}")), rtol=0, atol=0)


# Accuracy.


def test_accuracy_is_the_share_of_right_answers(digits, runtime):
    network = NARROW.build((1, 8, 8), 10, torch.Generator().manual_seed(3)).eval()
    right = 0
    for row in range(100):
        image = digits.transform.forward(digits.test.pixels[torch.tensor([row])])
        right += int(network(image).argmax()) == int(digits.test.labels[row])
    few = dataclasses.replace(
        digits.test,
        pixels=attar.images.sources.InMemory(digits.test.pixels.tensor[:100]),
        labels=digits.test.labels[:100],
    )
    assert accuracy(network, few, digits.transform, runtime) == right
    assert 0 < right < 100


def test_accuracy_does_not_depend_on_how_many_images_go_at_once(digits, runtime, monkeypatch):
    network = NARROW.build((1, 8, 8), 10, torch.Generator().manual_seed(3)).eval()
    whole = accuracy(network, digits.test, digits.transform, runtime)
    monkeypatch.setattr(layout, "at_once", lambda *a: 7)
    assert accuracy(network, digits.test, digits.transform, runtime) == whole


def test_a_network_that_knows_the_answers_is_always_right(shapes, runtime):
    class Oracle(nn.Module):
        def forward(self, images):
            start = len(shapes.test) - self.left
            self.left -= len(images)
            return F.one_hot(shapes.test.labels[start : start + len(images)], 3).float()

    oracle = Oracle()
    oracle.left = len(shapes.test)
    assert accuracy(oracle, shapes.test, shapes.transform, runtime) == 100
