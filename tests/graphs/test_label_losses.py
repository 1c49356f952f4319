"""A loss of labels in the training of networks on graphs: together, alone, and on whole sets."""

import dataclasses

import pytest
import torch
from torch.func import vmap

from attar.classifiers.losses import EnsLoss, Focal, LogHinge
from attar.core import engine as core
from attar.core.errors import InputError
from attar.core.losses import LossName
from attar.core.runtime import Runtime
from attar.graphs import together
from attar.graphs.coresets import GraphRandom, GraphStart
from attar.graphs.networks import classification_loss, drawn_for, labels_loss
from attar.graphs.protocols import PROTOCOLS, Protocol
from attar.graphs.together import train_on_condensed
from attar.graphs.trained import TrainGraphNetwork
from graphs.helpers import ENGINE, NARROW

BRIEF = Protocol(name="brief", epochs=30, training_lr=0.01, look_every=5)


def condensed(method, source, seed=0):
    runtime = Runtime(ENGINE, seed)
    return core.run(method.resolve(source, runtime), source, runtime)


@pytest.mark.parametrize("outputs", [1, 2, 4])
@pytest.mark.parametrize("name", LossName.__args__)
def test_every_loss_can_be_mapped_over_networks(name, outputs):
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, outputs, generator=draw, requires_grad=True)
    labels = torch.randint(max(2, outputs), (3, 7), generator=draw)
    loss = labels_loss(name)
    drawn = [] if loss is None else [loss.drawn(7, outputs, draw) for _ in range(3)]
    given = [torch.stack(drawn)] if drawn and drawn[0] is not None else []

    def of_one(logits, labels, *drawn):
        return classification_loss(logits, labels, loss, *drawn)

    mapped = vmap(of_one)(logits, labels, *given)
    alone = torch.stack([of_one(logits[n], labels[n], *(part[n] for part in given)) for n in range(3)])
    assert torch.allclose(mapped, alone, atol=1e-6)
    (first,), (second,) = (torch.autograd.grad(one.sum(), logits, retain_graph=True) for one in (mapped, alone))
    assert torch.allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("loss", ["ensloss", "log-hinge"])
def test_networks_together_learn_what_each_learns_alone(loss, motifs, monkeypatch):
    starts = [condensed(GraphStart(gpc=4), motifs, seed) for seed in range(2)]
    protocol, runtime = dataclasses.replace(BRIEF, loss=loss, batch=3), Runtime(ENGINE)
    pairs = [(small, motifs) for small in starts]
    found = train_on_condensed(pairs, NARROW, protocol, [0, 1], runtime)
    alone = [train_on_condensed([pair], NARROW, protocol, [s], runtime)[0] for s, pair in enumerate(pairs)]
    assert [one.last for one in found] == pytest.approx([one.last for one in alone], abs=2.6)
    small = condensed(GraphRandom(gpc=4), motifs)
    padded = train_on_condensed([(small, motifs)], NARROW, protocol, [0], runtime)[0]
    monkeypatch.setattr(together, "WASTE", 0)
    joined = train_on_condensed([(small, motifs)], NARROW, protocol, [0], runtime)[0]
    assert padded.last == pytest.approx(joined.last, abs=2.6)


def test_networks_on_whole_sets_are_trained_by_it(motifs):
    shown = {}
    for loss in ("cross-entropy", "ensloss"):
        protocol = dataclasses.replace(BRIEF, loss=loss, epochs=3)
        runtime = Runtime(ENGINE, 1)
        method = TrainGraphNetwork(architecture=NARROW, protocol=protocol).resolve(motifs)
        state = method.build(motifs, runtime)
        shown[loss] = [float(method.step(state, runtime)["loss"]) for _ in range(method.total_steps)]
        assert method.result(state, runtime).outcome.last > 0
    assert shown["ensloss"][0] == pytest.approx(shown["cross-entropy"][0])
    assert shown["ensloss"] != shown["cross-entropy"]


def test_a_protocol_of_older_files_has_the_usual_loss():
    older = {name: value for name, value in BRIEF.to_json().items() if name != "loss"}
    assert Protocol.from_json(older) == BRIEF
    quick = PROTOCOLS["quick"]
    assert (quick.told, dataclasses.replace(quick, loss="focal").told) == ("quick", "quick, loss focal")
    assert labels_loss("cross-entropy") is None
    families = [type(labels_loss(name)) for name in ("ensloss", "focal", "log-hinge")]
    assert families == [EnsLoss, Focal, LogHinge]


def test_dropout_of_the_readout_draws_for_each_network_and_losses_are_averaged():
    network = NARROW.build(3, 4, torch.Generator().manual_seed(0))
    protocol = dataclasses.replace(BRIEF, loss="ensloss", dropout=0.5, dropout_samples=3)
    loss = labels_loss("ensloss")
    first, second = (drawn_for(protocol, loss, 5, network, Runtime(ENGINE, seed)) for seed in (0, 1))
    assert first["masks"].shape == (3, 5, network.head.in_features)
    assert first["masks"].unique().tolist() == [0.0, 2.0]
    assert not torch.equal(first["masks"], second["masks"])
    again = drawn_for(protocol, loss, 5, network, Runtime(ENGINE, 0))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert drawn_for(BRIEF, None, 5, network, Runtime(ENGINE)) == {}
    logits, labels = torch.randn(3, 5, 4), torch.tensor([0, 1, 2, 3, 0])
    alone = [classification_loss(logits[m], labels, loss, first["drawn"][m]) for m in range(3)]
    whole = classification_loss(logits, labels, loss, first["drawn"])
    assert float(whole) == pytest.approx(float(torch.stack(alone).mean()))


@pytest.mark.parametrize("loss", ["cross-entropy", "ensloss"])
def test_dropout_together_is_dropout_alone_and_masks_change_the_training(loss, motifs):
    starts = [condensed(GraphStart(gpc=4), motifs, seed) for seed in range(2)]
    protocol = dataclasses.replace(BRIEF, loss=loss, batch=3, dropout=0.5, dropout_samples=2)
    pairs, runtime = [(small, motifs) for small in starts], Runtime(ENGINE)
    found = train_on_condensed(pairs, NARROW, protocol, [0, 1], runtime)
    alone = [train_on_condensed([pair], NARROW, protocol, [s], runtime)[0] for s, pair in enumerate(pairs)]
    assert [one.last for one in found] == pytest.approx([one.last for one in alone], abs=2.6)
    steps = {}
    for dropout in (0.0, 0.5):
        method = TrainGraphNetwork(
            architecture=NARROW, protocol=dataclasses.replace(BRIEF, epochs=2, dropout=dropout)
        ).resolve(motifs)
        state, turn = method.build(motifs, Runtime(ENGINE)), Runtime(ENGINE)
        steps[dropout] = [float(method.step(state, turn)["loss"]) for _ in range(method.total_steps)]
        assert method.result(state, turn).outcome.last > 0
    assert steps[0.0] != steps[0.5]


def test_samples_of_dropout_need_dropout():
    with pytest.raises(InputError, match="nothing is dropped"):
        dataclasses.replace(BRIEF, dropout_samples=4)
