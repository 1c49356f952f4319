import warnings

import pytest
import torch

from attar.graphs.structures import PaddedGraphs


def both(toy):
    """The same graphs in both forms, and where the joined nodes lie among the padded ones."""
    padded = toy.padded(8)
    return toy.joined(), padded, padded.mask


@pytest.mark.parametrize("operation", ["normalised", "sum", "mean"])
def test_joined_and_padded_graphs_spread_alike(operation, toy):
    joined, padded, own = both(toy)
    torch.testing.assert_close(
        getattr(padded, operation)(padded.features)[own], getattr(joined, operation)(joined.features)
    )


def test_the_normalised_adjacency_is_its_definition(toy):
    padded = toy.padded()
    looped = padded.adjacency + torch.eye(6, dtype=torch.float64)
    degrees = torch.diag_embed(looped.sum(dim=2) ** -0.5)
    torch.testing.assert_close(padded.normalised_adjacency, degrees @ looped @ degrees)


def test_attention_is_a_softmax_over_neighbours_and_self(toy, generator):
    joined, padded, own = both(toy)
    h = torch.randn(21, 2, 3, dtype=torch.float64, generator=generator)
    a, b = torch.randn(2, 21, 2, dtype=torch.float64, generator=generator)
    spread = joined.attended(h, a, b)
    wide = torch.zeros(6, 8, 2, 3, dtype=torch.float64), *torch.zeros(2, 6, 8, 2, dtype=torch.float64)
    for tensor, values in zip(wide, (h, a, b), strict=True):
        tensor[own] = values
    torch.testing.assert_close(padded.attended(*wide)[own], spread)
    node = 20  # the last of the ring-like graph: neighbours 15 + 4 by the path
    neighbours = [*toy.edges[1][toy.edges[0] == node].tolist(), node]
    scores = torch.nn.functional.leaky_relu(a[node] + b[neighbours], 0.2).softmax(dim=0)
    torch.testing.assert_close(spread[node], (scores.unsqueeze(2) * h[neighbours]).sum(dim=0))


def test_half_an_edge_counts_by_half_in_attention():
    features = torch.tensor([[[1.0], [5.0]]])
    even = torch.zeros(1, 2, 1)
    edge = torch.tensor([[[0.0, 0.5], [0.5, 0.0]]])
    found = PaddedGraphs(features, edge).attended(features.unsqueeze(-1), even, even)
    assert found[0, 0, 0, 0].item() == pytest.approx((1 + 0.5 * 5) / 1.5)


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_both_pool_over_a_graphs_own_nodes(how, toy):
    joined, padded, _ = both(toy)
    pooled = joined.pool(joined.features, how)
    torch.testing.assert_close(padded.pool(padded.features, how), pooled)
    whole = toy.features[15:]
    torch.testing.assert_close(pooled[5], whole.mean(dim=0) if how == "mean" else whole.sum(dim=0))


def test_without_a_mask_padding_counts():
    graphs = PaddedGraphs(torch.tensor([[[3.0], [0.0], [0.0]]]), torch.zeros(1, 3, 3))
    assert graphs.pool(graphs.features, "mean").item() == 1


def test_instance_norm_is_over_the_nodes_of_a_graph(toy):
    joined, padded, own = both(toy)
    centred = joined.centred(joined.features, 1e-9)
    torch.testing.assert_close(padded.centred(padded.features, 1e-9)[own], centred)
    assert centred[15:].mean(dim=0).abs().max() < 1e-12
    assert (centred[15:].var(dim=0, correction=0) - 1).abs().max() < 1e-6


def test_gradients_and_their_gradients_pass_through_sparse_rows(toy):
    joined = toy.joined()

    def spread(h):
        return joined.pool(joined.normalised(h).square() + joined.mean(h), "mean")

    h = toy.features.clone().requires_grad_()
    assert torch.autograd.gradcheck(spread, h)
    assert torch.autograd.gradgradcheck(spread, h)


def test_nothing_is_said_of_beta(toy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        toy.joined().normalised(toy.features)
