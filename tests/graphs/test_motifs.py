import torch

from attar.graphs.motifs import GRAPHS, motifs


def test_it_is_the_same_each_time():
    one, two = motifs().graphs, motifs().graphs
    assert torch.equal(one.features, two.features)
    assert torch.equal(one.edges, two.edges)
    assert float(one.features.sum()) == 2 * len(one.features)


def test_classes_are_of_one_size_and_connected():
    graphs = motifs().graphs
    assert torch.bincount(graphs.labels).tolist() == [GRAPHS // 2] * 2
    sizes = [graphs.sizes[graphs.labels == label].float().mean() for label in (0, 1)]
    assert abs(sizes[0] - sizes[1]) < 1
    padded = graphs.padded()
    reached = torch.matrix_power(padded.adjacency + torch.eye(padded.adjacency.shape[1]), 32) > 0
    assert bool((reached.sum(dim=2)[padded.mask] == graphs.sizes.repeat_interleave(graphs.sizes)).all())


def test_only_houses_come_with_a_roof_of_their_own():
    graphs = motifs().graphs
    padded = graphs.padded()
    triangles = torch.einsum("gij,gjk,gki->g", padded.adjacency, padded.adjacency, padded.adjacency) / 6
    houses, rings = (triangles[graphs.labels == label] for label in (0, 1))
    assert houses.min() >= 1
    assert rings.mean() < 0.5
