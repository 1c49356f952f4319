import dataclasses

import pytest
import torch

from attar.core.errors import InputError
from attar.graphs.networks import KINDS, Architecture, classification_loss, network_named, redraw_
from attar.graphs.structures import PaddedGraphs


@pytest.mark.parametrize("norm", ["none", "instance", "batch"])
@pytest.mark.parametrize("kind", KINDS)
def test_real_and_dense_graphs_get_the_same_answers(kind, norm, motifs, generator):
    rows = torch.arange(9)
    joined, padded = motifs.test.joined(rows), motifs.test.select(rows).padded(30)
    network = Architecture(kind=kind, norm=norm).build(motifs.features, 2, generator)
    if norm == "batch":
        network.freeze_statistics(joined)
    torch.testing.assert_close(network(padded), network(joined), rtol=1e-5, atol=1e-5)


def test_a_gcn_is_its_formula(toy, generator):
    network = Architecture(width=4, depth=2).build(3, 2, generator).double()
    padded = toy.padded()
    h = padded.features
    for layer in network.convolutions:
        h = (padded.normalised_adjacency @ h @ layer.weight.T + layer.bias).relu()
    pooled = torch.stack([h[g, :size].mean(dim=0) for g, size in enumerate(toy.sizes)])
    torch.testing.assert_close(network(toy.joined()), pooled @ network.head.weight.T + network.head.bias)


@pytest.mark.parametrize("kind", ["gcn", "gin", "sage", "gat"])
def test_layers_are_those_of_pytorch_geometric(kind, toy, generator):
    pytest.importorskip("torch_geometric", reason="pip install torch-geometric")
    from torch_geometric import nn

    ours = Architecture(kind=kind, width=8, depth=1).build(3, 2, generator).double().convolutions[0]
    if kind == "gcn":
        theirs = nn.GCNConv(3, 8)
        values = {"lin.weight": ours.weight, "bias": ours.bias}
    elif kind == "gin":
        theirs = nn.GINConv(torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8)))
        values = {
            f"nn.{2 * i}.{n}": getattr(m, n)
            for i, m in enumerate((ours.first, ours.second))
            for n in ("weight", "bias")
        }
    elif kind == "sage":
        theirs = nn.SAGEConv(3, 8)
        values = {
            "lin_l.weight": ours.neighbours.weight,
            "lin_l.bias": ours.neighbours.bias,
            "lin_r.weight": ours.own.weight,
        }
    else:
        theirs = nn.GATConv(3, 2, heads=4)
        values = {"lin.weight": ours.weight, "bias": ours.bias, "att_src": ours.other[None], "att_dst": ours.own[None]}
    theirs = theirs.double()
    theirs.load_state_dict(values, strict=False)
    torch.testing.assert_close(ours(toy.features, toy.joined()), theirs(toy.features, toy.edges))


@pytest.mark.parametrize("kind", KINDS)
def test_numbering_the_nodes_otherwise_changes_no_answer(kind, motifs, generator):
    padded = motifs.test.padded()
    order = torch.randperm(padded.features.shape[1], generator=generator)
    other = PaddedGraphs(padded.features[:, order], padded.adjacency[:, order][:, :, order], padded.mask[:, order])
    network = Architecture(kind=kind, width=8).build(motifs.features, 2, generator)
    torch.testing.assert_close(network(other), network(padded), rtol=1e-4, atol=1e-5)


def test_drawn_anew_it_is_another_network_and_from_the_same_seed_the_same():
    built = [Architecture().build(5, 2, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    first, same, other = (network.head.weight for network in built)
    assert torch.equal(first, same)
    redraw_(built[0], torch.Generator().manual_seed(1))
    assert torch.equal(first, other)


def test_one_output_is_a_coin_and_several_are_classes(generator):
    labels, one, two = (
        torch.tensor([0, 1, 1]),
        torch.randn(3, 1, generator=generator),
        torch.randn(3, 2, generator=generator),
    )
    coin = -torch.where(labels == 1, one[:, 0].sigmoid(), 1 - one[:, 0].sigmoid()).log().mean()
    torch.testing.assert_close(classification_loss(one, labels), coin)
    torch.testing.assert_close(classification_loss(two, labels), -two.log_softmax(dim=1)[range(3), labels].mean())


def test_a_name_holds_the_options():
    assert network_named("gin:width=64,pooling=sum") == Architecture(kind="gin", width=64, pooling="sum")
    assert dataclasses.asdict(network_named("gcn")) == dataclasses.asdict(Architecture())


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("gcm", "unknown network 'gcm'"), ("gcn:width=wide", "must be a whole number"), ("gcn:heads=2", "heads")],
)
def test_unknown_names_and_options_are_refused(name, wrong):
    with pytest.raises(InputError, match=wrong):
        network_named(name)
