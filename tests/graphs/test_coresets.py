import dataclasses

import pytest
import torch

from attar.core import engine as core
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.selection import herding
from attar.graphs.coresets import GraphHerding, GraphKCenter, GraphRandom, GraphStart, Observer, embed
from attar.graphs.protocols import Protocol
from attar.graphs.trained import trained
from graphs.helpers import ENGINE, NARROW

BRIEF = Protocol(name="brief", epochs=2)


def chosen(method, source, seed=0):
    runtime = Runtime(ENGINE, seed)
    return core.run(method.resolve(source, runtime), source, runtime)


@pytest.mark.parametrize("method", [GraphRandom, GraphHerding, GraphKCenter])
def test_chosen_graphs_are_real_ones_of_their_class_and_size(method, few):
    settings = {} if method is GraphRandom else {"observer": Observer(architecture=NARROW, protocol=BRIEF)}
    small = chosen(method(gpc=(3, 2), **settings), few)
    assert small.labels.tolist() == [0, 0, 0, 1, 1]
    assert small.logits is None
    found = []
    for row, label in enumerate(small.labels.tolist()):
        one = small.graphs.select(torch.tensor([row]))
        for real in few.rows_of[label].tolist():
            other = few.train.select(torch.tensor([real]))
            if torch.equal(one.features, other.features) and torch.equal(one.edges, other.edges):
                found.append(real)
    assert len(set(found)) == 5


def test_the_start_is_what_learning_starts_from(few):
    small = chosen(GraphStart(gpc=2), few)
    start = GraphStart(gpc=2).resolve(few, Runtime(ENGINE)).begin(few, Runtime(ENGINE))
    assert torch.equal(small.feat, start.features)
    assert torch.equal(small.adjacency, start.adjacency.bool())
    assert len(set(small.sizes.tolist())) == 1


def test_herding_follows_the_mean_embedding_better_than_chance(few):
    runtime = Runtime(ENGINE)
    network = trained(few, NARROW, BRIEF, runtime).network
    for rows in few.rows_of:
        z = embed(network, few, rows, runtime)
        assert torch.equal(z, embed(network, few, rows, runtime))
        gaps = [(z[pick].mean(dim=0) - z.mean(dim=0)).norm() for pick in (herding(z, 4), torch.arange(4))]
        assert gaps[0] < gaps[1]


def test_more_graphs_than_a_class_has_are_refused(few):
    with pytest.raises(InputError, match=r"gpc is 13, but class 'house' of motifs has 12 training graphs"):
        chosen(GraphRandom(gpc=13), few)


def test_another_network_is_another_selection_for_the_cache(few):
    runtime = Runtime(ENGINE)
    first = trained(few, NARROW, BRIEF, runtime, seed=1).network
    again = trained(few, NARROW, BRIEF, runtime, seed=1).network
    other = trained(few, NARROW, dataclasses.replace(BRIEF, epochs=3), runtime, seed=1).network
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
