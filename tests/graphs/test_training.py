import dataclasses

import pytest
import torch

from attar.core import engine as core
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.graphs import training
from attar.graphs.coresets import GraphRandom, GraphStart
from attar.graphs.networks import Architecture
from attar.graphs.training import (
    Protocol,
    measured,
    protocol_named,
    train_on_condensed,
    trained,
)
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
    monkeypatch.setattr(training, "WASTE", 0)
    joined = train_on_condensed([(small, motifs)], NARROW, BRIEF, [0], runtime)[0]
    assert padded.last == pytest.approx(joined.last, abs=2.6)
    assert padded.validation == pytest.approx(joined.validation, abs=3.2)


def test_small_batches_go_through_all_graphs(starts, motifs, monkeypatch):
    seen = []
    real = training._batches

    def spy(*args):
        for batch in real(*args):
            seen.append(batch[3].clone())
            yield batch

    monkeypatch.setattr(training, "_batches", spy)
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


def test_the_chosen_epoch_is_the_first_with_the_best_validation_score(motifs):
    scores = iter([50.0, 70.0, 70.0, 60.0, 11.0, 22.0])
    follow = training._Follow(NARROW.build(8, 2, torch.Generator()), [motifs.validation], "accuracy", Runtime(ENGINE))
    follow._score = lambda parameters, graphs: next(scores)
    for epoch in range(1, 5):
        follow.look({"w": torch.tensor([[epoch]])}, epoch)
    assert follow.kept[0]["w"].item() == 2
    outcome = follow.outcomes({"w": torch.tensor([[4]])}, [motifs.test])[0]
    assert (outcome.chosen, outcome.last, outcome.validation, outcome.epoch) == (11.0, 22.0, 70.0, 2)


def test_all_the_graphs_teach_more_than_guessing(motifs):
    protocol = Protocol(name="brief", epochs=25, training_lr=0.01)
    found = trained(motifs, Architecture(width=32), protocol, Runtime(ENGINE))
    assert found.outcome.last > 65


def test_what_would_take_too_long_is_not_trained(motifs):
    assert trained(motifs, NARROW, Protocol(name="long", epochs=10**7), Runtime(ENGINE), most=1.0) is None


def test_measures(generator):
    labels = torch.tensor([0, 1, 1, 0])
    assert measured(torch.tensor([[2.0, 1], [0, 1], [1, 0], [3, 0]]), labels, "accuracy") == 75
    assert measured(torch.tensor([[0.1], [0.9], [0.3], [0.2]]), labels, "roc-auc") == 100


def test_batch_norm_and_unknown_protocols_are_refused(starts, motifs):
    with pytest.raises(InputError, match="batch norm is for matching"):
        train_on_condensed([(starts[0], motifs)], Architecture(norm="batch"), BRIEF, [0], Runtime(ENGINE))
    with pytest.raises(InputError, match="unknown protocol 'fields'; did you mean 'field'"):
        protocol_named("fields")
