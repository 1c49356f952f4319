import dataclasses

import pytest
import torch

from attar.core import engine as core
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.graphs import together
from attar.graphs.coresets import GraphRandom, GraphStart
from attar.graphs.networks import Architecture
from attar.graphs.protocols import Protocol
from attar.graphs.together import train_on_condensed
from graphs.helpers import ENGINE, NARROW

BRIEF = Protocol(name="brief", epochs=30, training_lr=0.01, look_every=5)


@pytest.fixture(scope="module")
def starts(motifs):
    return [condensed(GraphStart(gpc=4), motifs, seed) for seed in range(3)]


def condensed(method, source, seed=0):
    runtime = Runtime(ENGINE, seed)
    return core.run(method.resolve(source, runtime), source, runtime)


@pytest.mark.parametrize("kind", ["gcn", "gin", "gat", "sage"])
def test_networks_together_learn_what_each_learns_alone(kind, starts, motifs):
    architecture, runtime = dataclasses.replace(NARROW, kind=kind), Runtime(ENGINE)
    pairs = [(small, motifs) for small in starts]
    together = train_on_condensed(pairs, architecture, BRIEF, [0, 1, 2], runtime)
    alone = [train_on_condensed([pair], architecture, BRIEF, [s], runtime)[0] for s, pair in enumerate(pairs)]
    for one, other in zip(together, alone, strict=True):
        assert one.last == pytest.approx(other.last, abs=2.6)  # two graphs of eighty on the edge
        assert one.epoch in range(5, 31, 5)


def test_padded_and_joined_training_are_the_same(motifs, monkeypatch):
    small = condensed(GraphRandom(gpc=4), motifs)
    runtime = Runtime(ENGINE)
    padded = train_on_condensed([(small, motifs)], NARROW, BRIEF, [0], runtime)[0]
    monkeypatch.setattr(together, "WASTE", 0)
    joined = train_on_condensed([(small, motifs)], NARROW, BRIEF, [0], runtime)[0]
    assert padded.last == pytest.approx(joined.last, abs=2.6)
    assert padded.validation == pytest.approx(joined.validation, abs=3.2)


def test_small_batches_go_through_all_graphs(starts, motifs, monkeypatch):
    seen = []
    real = together._batches

    def spy(*args):
        for batch in real(*args):
            seen.append(batch[3].clone())
            yield batch

    monkeypatch.setattr(together, "_batches", spy)
    protocol = Protocol(epochs=1, batch=3)
    train_on_condensed([(small, motifs) for small in starts[:2]], NARROW, protocol, [0, 1], Runtime(ENGINE))
    assert [tuple(batch.shape) for batch in seen] == [(2, 3), (2, 3), (2, 2)]
    assert torch.cat(seen, dim=1).sum(dim=1).tolist() == [4, 4]


def test_the_step_size_drops_half_way(starts, motifs, monkeypatch):
    rates = []
    real = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self, *a: rates.append(self.param_groups[0]["lr"]) or real(self)
    )
    train_on_condensed([(starts[0], motifs)], NARROW, Protocol(epochs=4), [0], Runtime(ENGINE))
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


def test_batch_norm_is_refused(starts, motifs):
    with pytest.raises(InputError, match="norm=batch is for matching only"):
        train_on_condensed([(starts[0], motifs)], Architecture(norm="batch"), BRIEF, [0], Runtime(ENGINE))
