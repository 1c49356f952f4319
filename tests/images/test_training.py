import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import attar
from attar.core import engine as core
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.seeds import Generators, derived_seed
from attar.core.training import network_folder
from attar.images import layout
from attar.images.networks.architecture import Architecture, from_factory
from attar.images.protocols import PROTOCOLS, Protocol, protocol_named
from attar.images.repeats import accuracy, trainings
from attar.images.trained import trained
from attar.images.training import TrainedNetwork, TrainNetwork

NARROW = Architecture(width=8)
PLAIN = Protocol(name="plain", epochs=3, batch=16, augmented=False)


def train(method, examples, runtime):
    """The state after every step, and each step's loss."""
    method = method.resolve(examples, runtime)
    state = method.build(examples, runtime)
    return state, [float(method.step(state, runtime)["loss"]) for _ in range(method.total_steps)]


def parameters(network):
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def assert_same(first, second, **tolerance):
    torch.testing.assert_close(parameters(first), parameters(second), **tolerance)


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


def test_a_network_trained_once_is_found_again(few_digits, runtime, monkeypatch):
    protocol = Protocol(name="found again", epochs=1)
    first = trained(few_digits, NARROW, runtime, protocol)
    monkeypatch.setattr(TrainNetwork, "step", lambda *arguments: pytest.fail("trained again"))
    assert_same(trained(few_digits, NARROW, runtime, protocol).network, first.network, rtol=0, atol=0)


def test_other_data_settings_or_seeds_are_other_networks(few_digits, digits, tmp_path):
    method = TrainNetwork(architecture=NARROW, protocol=PLAIN).resolve(few_digits)
    wider = dataclasses.replace(method, architecture=Architecture(width=16))
    places = {
        network_folder(method, few_digits, 0),
        network_folder(method, few_digits, 1),
        network_folder(method, digits, 0),
        network_folder(wider, few_digits, 0),
    }
    assert len(places) == 4


# Protocols.


@pytest.mark.parametrize(
    "name, epochs, batch, augmented",
    [("field", 1000, 256, True), ("dc", 300, 256, False), ("datadam", 1801, 64, True)],
)
def test_the_published_protocols_are_as_published(name, epochs, batch, augmented):
    protocol = protocol_named(name)
    assert (protocol.epochs, protocol.batch, protocol.augmented) == (epochs, batch, augmented)
    assert (protocol.lr, protocol.momentum, protocol.weight_decay) == (0.01, 0.9, 5e-4)
    assert protocol.cut_epoch == epochs // 2 + 2


def test_every_protocol_goes_by_its_name():
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())
    assert protocol_named(PLAIN) is PLAIN


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InputError) as refusal:
        protocol_named("feild")
    assert str(refusal.value) == (
        "unknown protocol 'feild'; did you mean 'field'? Known: ceiling, datadam, dc, field, hello, quick, rded, sre2l."
    )
