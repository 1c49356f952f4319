import torch

from attar.graphs.collection import GraphCollection, ranges


def test_ranges_are_the_counted_numbers_from_each_start():
    assert ranges(torch.tensor([5, 0, 9]), torch.tensor([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]


def test_loops_and_repetitions_go_and_missing_directions_come():
    edges = torch.tensor([[0, 0, 1, 2], [1, 1, 0, 2]])
    graphs = GraphCollection.of(torch.zeros(3, 1), edges, torch.tensor([3]), torch.tensor([0]))
    assert graphs.edges.tolist() == [[0, 1], [1, 0]]
    assert graphs.degrees.tolist() == [1, 1, 0]


def test_selected_graphs_are_those_graphs_in_that_order(toy):
    chosen = toy.select(torch.tensor([4, 0, 2]))
    assert chosen.sizes.tolist() == [5, 1, 3]
    for place, row in enumerate([4, 0, 2]):
        one, other = (x.select(torch.tensor([r])) for x, r in ((chosen, place), (toy, row)))
        assert torch.equal(one.features, other.features)
        assert torch.equal(one.edges, other.edges)
        assert one.labels == other.labels


def test_padding_and_taking_it_off_again_changes_nothing(toy):
    padded = toy.padded(9)
    assert padded.features.shape == (6, 9, 3)
    assert torch.equal(padded.adjacency, padded.adjacency.mT)
    back = GraphCollection.from_dense(padded.features, padded.adjacency.bool(), toy.sizes, toy.labels)
    assert torch.equal(back.features, toy.features)
    assert torch.equal(back.edges, toy.edges)


def test_a_joined_batch_holds_the_rows_of_the_normalised_adjacency(toy):
    rows = torch.tensor([5, 3])
    joined, padded = toy.joined(rows), toy.select(rows).padded()
    own = torch.block_diag(*(a[:n, :n] for a, n in zip(padded.normalised_adjacency, [6, 4], strict=True)))
    torch.testing.assert_close(joined._normalised.to_dense(), own)
    torch.testing.assert_close(joined.smoothed, own @ joined.features)
    assert joined.columns.dtype == torch.int32


def test_bytes_are_those_of_its_parts(toy):
    assert toy.bytes == 4 * toy.features.numel() + 8 * (toy.edges.shape[1] // 2) + 12 * 6
