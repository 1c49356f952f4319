import dataclasses

import pytest
import torch
import torch.nn.functional as F

from attar.core import engine as core
from attar.core.runtime import Engine, Runtime
from attar.core.seeds import Generators
from attar.images import layout
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.training import TrainedNetwork, TrainNetwork
from images.helpers import NARROW, PLAIN, assert_same, parameters, train


class SoftExamples:
    """A few digits with labels that hesitate."""

    def __init__(self, source, generator):
        self.shape, self.classes, self.flips = source.shape, source.classes, source.flips
        self.images = source.inputs(torch.arange(len(source.train)))
        self.targets = torch.softmax(torch.randn(len(source.train), 10, generator=generator), dim=1)
        self.fingerprint = "soft"

    def inputs(self, rows, device="cpu"):
        return self.images[rows].to(device)


# The loop, against plain PyTorch.


def plain_training(network, images, targets, protocol, generators):
    """The protocol from its words: one pass after another, a tenth of the step size and no momentum after the cut."""
    sgd = {"momentum": protocol.momentum, "weight_decay": protocol.weight_decay}
    optimizer = torch.optim.SGD(network.parameters(), protocol.lr, **sgd)
    losses = []
    for epoch in range(protocol.epochs):
        if epoch == int(protocol.epochs * protocol.cut_after) + 2:
            optimizer = torch.optim.SGD(network.parameters(), protocol.lr / 10, **sgd)
        for rows in torch.randperm(len(images), generator=generators("shuffle")).split(protocol.batch):
            loss = F.cross_entropy(network(images[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    "architecture", [NARROW, Architecture(width=8, norm="batch"), Architecture(network="mlp", width=8)]
)
@pytest.mark.parametrize("epochs", [3, 6])
def test_training_is_the_protocol_in_plain_torch(epochs, architecture, shapes, engine):
    protocol = dataclasses.replace(PLAIN, epochs=epochs, lr=0.02)
    method = TrainNetwork(architecture=architecture, protocol=protocol)
    state, losses = train(method, shapes, Runtime(engine, 4))
    generators = Generators(4)
    network = method.resolve(shapes).architecture.build(shapes.shape, 3, generators("network")).train()
    images = shapes.inputs(torch.arange(len(shapes.train)))
    expected = plain_training(network, images, shapes.targets, protocol, generators)
    assert losses == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert_same(state.network, network, rtol=1e-3, atol=1e-4)


def test_soft_labels_are_trained_on_as_they_are(few_digits, engine, generator):
    examples = SoftExamples(few_digits, generator)
    method = TrainNetwork(architecture=NARROW, protocol=PLAIN)
    state, losses = train(method, examples, Runtime(engine, 4))
    generators = Generators(4)
    network = method.resolve(examples).architecture.build(examples.shape, 10, generators("network")).train()
    assert losses == pytest.approx(
        plain_training(network, examples.images, examples.targets, PLAIN, generators), rel=1e-4
    )
    assert_same(state.network, network, rtol=1e-3, atol=1e-5)


def test_certain_soft_labels_are_hard_labels(few_digits, engine, generator):
    examples = SoftExamples(few_digits, generator)
    examples.targets = F.one_hot(few_digits.targets, 10).float()
    method = TrainNetwork(architecture=NARROW, protocol=PLAIN)
    assert train(method, examples, Runtime(engine, 4))[1] == pytest.approx(
        train(method, few_digits, Runtime(engine, 4))[1], rel=1e-5
    )


@pytest.mark.parametrize("at_once", [1, 5])
def test_a_gradient_gathered_in_parts_is_the_whole_gradient(at_once, shapes, engine, monkeypatch):
    method = TrainNetwork(architecture=NARROW, protocol=dataclasses.replace(PLAIN, epochs=1, augmented=True))
    whole, losses = train(method, shapes, Runtime(engine, 1))
    monkeypatch.setattr(layout, "at_once", lambda *a: at_once)
    parts, again = train(method, shapes, Runtime(engine, 1))
    assert (whole.at_once, parts.at_once) == (64, at_once)
    assert again == pytest.approx(losses, rel=1e-5)
    assert_same(parts.network, whole.network, rtol=1e-3, atol=1e-5)


def test_batch_statistics_are_those_of_the_whole_batch(shapes, engine, monkeypatch):
    method = TrainNetwork(architecture=Architecture(width=8, norm="batch"), protocol=PLAIN)
    whole, _ = train(method, shapes, Runtime(engine, 1))
    monkeypatch.setattr(layout, "at_once", lambda *a: 2)
    parts, _ = train(method, shapes, Runtime(engine, 1))
    assert_same(parts.network, whole.network, rtol=0, atol=0)


def test_a_set_smaller_than_a_batch_is_one_batch(shapes):
    method = TrainNetwork(protocol=Protocol(name="plain", epochs=7)).resolve(shapes)
    assert (method.images, method.batches, method.total_steps) == (60, 1, 7)


def test_the_last_batch_of_a_pass_is_kept_though_smaller(shapes):
    method = TrainNetwork(protocol=PLAIN).resolve(shapes)
    assert (method.batches, method.total_steps) == (4, 12)


@pytest.mark.parametrize(("norm", "steps"), [("batch", [0, 2]), ("instance", [0, 1, 2, 3])])
def test_a_last_batch_of_one_image_has_no_statistics_to_take(norm, steps, few_digits, engine):
    runtime, architecture = Runtime(engine, 0), Architecture(width=8, norm=norm)
    protocol = dataclasses.replace(PLAIN, epochs=2, batch=len(few_digits.train) - 1)
    method = TrainNetwork(architecture=architecture, protocol=protocol).resolve(few_digits, runtime)
    state = method.build(few_digits, runtime)
    seen = []
    for number in range(method.total_steps):
        before = parameters(state.network)
        method.step(state, runtime)
        changed = any(not torch.equal(before[name], value) for name, value in parameters(state.network).items())
        seen += [number] * changed
    assert seen == steps


def test_augmentation_changes_the_batches(shapes, engine):
    plain = TrainNetwork(architecture=NARROW, protocol=PLAIN)
    augmented = TrainNetwork(architecture=NARROW, protocol=dataclasses.replace(PLAIN, augmented=True))
    assert train(plain, shapes, Runtime(engine, 1))[1] != train(augmented, shapes, Runtime(engine, 1))[1]


def test_the_loss_falls(shapes, engine):
    method = TrainNetwork(architecture=NARROW, protocol=dataclasses.replace(PLAIN, epochs=15, lr=0.05))
    _, losses = train(method, shapes, Runtime(engine, 0))
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])


# On disk.


def test_a_trained_network_is_the_same_after_a_trip_to_disk(few_digits, tmp_path, runtime, generator):
    method = TrainNetwork(architecture=Architecture(width=8, norm="batch"), protocol=PLAIN).resolve(few_digits)
    network = core.run(method, few_digits, runtime)
    network.save(tmp_path)
    again = TrainedNetwork.load(tmp_path)
    images = torch.randn(4, 1, 8, 8, generator=generator)
    torch.testing.assert_close(again.network(images), network.network(images))
    assert_same(again.network, network.network, rtol=0, atol=0)
    assert (again.method, again.shape, again.classes) == (method, few_digits.shape, few_digits.classes)


def test_checkpoints_on_the_way_change_nothing(few_digits, tmp_path, engine):
    method = TrainNetwork(architecture=Architecture(width=8, norm="batch"), protocol=PLAIN).resolve(few_digits)
    often = Engine(device="cpu", compile="off", quiet=True, checkpoint_seconds=0)
    undisturbed = core.run(method, few_digits, Runtime(engine, 0))
    saved_often = core.run(method, few_digits, Runtime(often, 0), out=tmp_path / "network")
    assert_same(saved_often.network, undisturbed.network, rtol=0, atol=0)
