import dataclasses
import math
import os
import signal

import pytest
import torch
import torch.nn.functional as F

from attar.core import engine as core
from attar.core.errors import Interrupted
from attar.core.runtime import Runtime
from attar.core.seeds import Generators
from attar.graphs import training
from attar.graphs.networks import Architecture
from attar.graphs.protocols import Protocol
from attar.graphs.trained import TrainGraphNetwork, trained
from graphs.helpers import ENGINE, NARROW


def test_all_the_graphs_teach_more_than_guessing(motifs):
    protocol = Protocol(name="brief", epochs=25, training_lr=0.01)
    found = trained(motifs, Architecture(width=32), protocol, Runtime(ENGINE))
    assert found.outcome.last > 65


def network_of(folder):
    return (folder / "network.safetensors").read_bytes()


@pytest.mark.parametrize("batch", [64, 1000])
def test_a_killed_training_ends_in_the_same_bytes(batch, motifs, tmp_path, monkeypatch):
    """In several batches an epoch, and in one; killed before and after looks at the validation score."""
    protocol = Protocol(name="killed", epochs=8, batch=batch, look_every=3)
    method = TrainGraphNetwork(architecture=NARROW, protocol=protocol).resolve(motifs)
    assert method.batches == math.ceil(288 / batch)
    often, real = dataclasses.replace(ENGINE, checkpoint_seconds=0), TrainGraphNetwork.step
    core.run(method, motifs, Runtime(ENGINE, 5), out=tmp_path / "whole")
    for kill_at in (2, 4 * method.batches + 1, 7 * method.batches):

        def dying(self, state, runtime, kill_at=kill_at):
            if state.done == kill_at:
                raise KeyboardInterrupt
            return real(self, state, runtime)

        monkeypatch.setattr(TrainGraphNetwork, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            core.run(method, motifs, Runtime(often, 5), out=tmp_path / "killed")
    monkeypatch.undo()
    core.run(method, motifs, Runtime(often, 5), out=tmp_path / "killed")
    assert network_of(tmp_path / "killed") == network_of(tmp_path / "whole")


def test_a_training_that_is_cut_off_goes_on_in_the_cache(motifs, monkeypatch):
    protocol, taken = Protocol(name="cut off", epochs=5), []
    engine, real = dataclasses.replace(ENGINE, checkpoint_seconds=0), TrainGraphNetwork.step

    def counted(self, state, runtime):
        taken.append(state.done)
        if len(taken) == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, state, runtime)

    monkeypatch.setattr(TrainGraphNetwork, "step", counted)
    with pytest.raises(Interrupted, match="stopped after step 8 of 15"):
        trained(motifs, NARROW, protocol, Runtime(engine))
    first, again = (trained(motifs, NARROW, protocol, Runtime(engine)).outcome for _ in range(2))
    assert taken == list(range(15))
    assert first == again


def test_a_network_on_all_graphs_is_trained_as_in_plain_torch(motifs):
    protocol = Protocol(name="plain", epochs=4, look_every=2)
    generators = Generators(3)
    network = NARROW.build(motifs.features, motifs.outputs, generators("network"))
    optimizer, validation, test = torch.optim.Adam(network.parameters(), 1e-3), [], []
    for epoch in range(1, 5):
        for rows in torch.randperm(288, generator=generators("order")).split(128):
            optimizer.zero_grad()
            F.cross_entropy(network(motifs.train.joined(rows)), motifs.train.labels[rows]).backward()
            optimizer.step()
        if epoch == 2:
            optimizer.param_groups[0]["lr"] = 1e-4
        if epoch % 2 == 0:
            validation.append(share_right(network, motifs.validation))
            test.append(share_right(network, motifs.test))
    found = trained(motifs, NARROW, protocol, Runtime(ENGINE), seed=3)
    torch.testing.assert_close(dict(found.network.state_dict()), dict(network.state_dict()), rtol=0, atol=0)
    best = validation.index(max(validation))
    assert vars(found.outcome) == {
        "chosen": test[best],
        "last": test[-1],
        "validation": validation[best],
        "epoch": 2 * best + 2,
    }


@torch.no_grad()
def share_right(network, graphs):
    return 100 * float((network(graphs.joined()).argmax(dim=1) == graphs.labels).float().mean())


def test_the_test_graphs_are_asked_once(motifs, tmp_path, monkeypatch):
    """However often the training is saved on its way."""
    asked, real = [], training.answers

    def spy(network, graphs, runtime):
        asked.append(graphs is motifs.test)
        return real(network, graphs, runtime)

    monkeypatch.setattr(training, "answers", spy)
    method = TrainGraphNetwork(architecture=NARROW, protocol=Protocol(epochs=4, look_every=2)).resolve(motifs)
    often = dataclasses.replace(ENGINE, checkpoint_seconds=0)
    core.run(method, motifs, Runtime(often), out=tmp_path)
    assert asked == [False, False, True, True]  # the best epoch's parameters, and the last one's
