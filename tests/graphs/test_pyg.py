"""Graphs of PyTorch Geometric: what is taken, and what is refused with the number of the graph."""

import numpy as np
import pytest
import torch

from attar.core.errors import InputError
from attar.graphs.sources import load

Data = pytest.importorskip("torch_geometric.data", reason="pip install torch-geometric").Data
PATH = torch.tensor([[0, 1], [1, 2]])


def graphs(count=6, **changes):
    """Paths of three nodes; `changes` are those of graph 2, and None takes an attribute away."""
    found = [
        Data(x=torch.full((3, 2), float(number)), edge_index=PATH, y=torch.tensor([number % 2]))
        for number in range(count)
    ]
    for name, value in changes.items():
        setattr(found[2], name, value)
    return found


@pytest.mark.parametrize(
    "y", [torch.tensor(0), torch.tensor([[0]]), torch.tensor([0.0]), torch.tensor([False]), 0, 0.0, False]
)
def test_a_label_may_be_written_in_many_ways(y):
    source = load(graphs(y=y))
    assert source.classes == ("0", "1")
    assert source.graphs.labels.tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"y": torch.tensor([float("nan")])}, r"the label y of graph 2 is nan; it must be the whole number of a class"),
        ({"y": torch.tensor([0.7])}, r"the label y of graph 2 is 0\.6\d*; it must be the whole number of a class"),
        ({"y": torch.tensor([float("inf")])}, r"the label y of graph 2 is inf;"),
        ({"y": torch.tensor([0, 1])}, r"graph 2 has 2 values in its label y; it must have one\."),
        ({"y": torch.tensor([])}, r"graph 2 has 0 values in its label y;"),
        ({"y": None}, r"graph 2 has no label y\."),
        ({"y": "cat"}, r"y of graph 2 is a str without numbers\."),
        ({"x": None}, r"graph 2 has no features x, but graph 0 has some\."),
        ({"x": torch.ones(3, 5)}, r"graph 2 has 5 features a node, but graph 0 has 2\."),
        ({"x": torch.ones(3, 2, 1)}, r"features x of graph 2 have the shape \[3, 2, 1\], not \[node, feature\]\."),
        ({"x": torch.full((3, 2), torch.nan)}, r"features x of graph 2 hold values that are not finite numbers\."),
        ({"x": torch.ones(0, 2)}, r"graph 2 has no nodes\."),
        ({"num_nodes": 4}, r"graph 2 has 4 nodes, but features x of 3\."),
        ({"edge_index": torch.tensor([[0, 3], [1, 0]])}, r"edge_index of graph 2 names node 3, but its nodes are 0 to"),
        ({"edge_index": torch.tensor([[0, -1], [1, 0]])}, r"edge_index of graph 2 names node -1, but"),
        ({"edge_index": torch.tensor([[0, 1], [1, 2], [2, 0]])}, r"the shape \[3, 2\], not \[2, edge\]\. Transpose"),
        ({"edge_index": torch.tensor([0, 1])}, r"edge_index of graph 2 has the shape \[2\], not \[2, edge\]\."),
        ({"edge_index": PATH.float()}, r"edge_index of graph 2 is of type torch\.float32; it must hold whole"),
        ({"edge_index": None}, r"graph 2 has no edge_index; give one of shape \[2, 0\]"),
    ],
)  # fmt: skip
def test_a_graph_that_does_not_fit_is_refused_by_its_number(changes, wrong):
    with pytest.raises(InputError, match=wrong):
        load(graphs(**changes))


def test_features_missing_in_the_first_graph_only_are_not_replaced_by_degrees():
    theirs = graphs()
    theirs[0].x = None
    with pytest.raises(InputError, match=r"graph 0 has no features x, but graph 1 has some\."):
        load(theirs)


def test_a_single_feature_may_be_a_vector_and_a_graph_without_edges_is_one():
    theirs = graphs(edge_index=torch.zeros(2, 0, dtype=torch.long))
    for one in theirs:
        one.x = one.x[:, 0]
    source = load(theirs)
    assert source.features == 1
    assert source.graphs.edge_counts.tolist() == [4, 4, 0, 4, 4, 4]


def test_values_of_edges_are_said_to_be_unused():
    assert "not used" not in str(load(graphs()))
    told = str(load(graphs(edge_attr=torch.ones(2, 4), edge_weight=torch.ones(2))))
    assert told.endswith("; not used: edge_attr, edge_weight")


def test_a_batch_is_its_graphs():
    from torch_geometric.data import Batch

    assert load(Batch.from_data_list(graphs())).fingerprint == load(graphs()).fingerprint


@pytest.mark.parametrize("data", [[], [1, 2], {"x": 1}, 7, [torch.ones(2)]])
def test_what_is_no_sequence_of_graphs_is_refused(data):
    with pytest.raises(
        InputError, match=r"give graphs as a name, a folder, or a sequence of torch_geometric\.data\.Data\."
    ):
        load(data)


@pytest.mark.parametrize("data", [np.float64(1), np.array([1]), [1]])
def test_labels_features_and_edges_may_be_numbers_of_numpy_or_lists(data):
    theirs = graphs(y=data, x=np.full((3, 2), 2.0), edge_index=PATH.tolist())
    source = load(theirs)
    assert source.graphs.labels.tolist() == [0, 1, 1, 1, 0, 1]
    assert torch.equal(source.graphs.edges, load(graphs()).graphs.edges)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"y": torch.tensor(1e300, dtype=torch.float64)}, r"the label y of graph 2 is 1e\+300; it must be the whole"),
        ({"x": torch.ones(3, 2).to_sparse()}, r"x of graph 2 is sparse; give a dense tensor\."),
        ({"x": torch.ones(3, 2, dtype=torch.complex64)}, r"the features x of graph 2 are complex; give real numbers\."),
        ({"edge_index": [["a"], ["b"]]}, r"edge_index of graph 2 is a list without numbers\."),
    ],
)
def test_what_is_no_plain_number_is_refused_by_its_graph(changes, wrong):
    with pytest.raises(InputError, match=wrong):
        load(graphs(**changes))


def test_every_tensor_that_is_not_read_is_told():
    assert str(load(graphs(pos=torch.ones(3, 3), edge_type=torch.ones(2)))).endswith("; not used: edge_type, pos")
    assert "not used" not in str(load(graphs(smiles="CCO")))


def test_a_part_of_a_data_set_is_its_graphs():
    subset = torch.utils.data.Subset(graphs(12), range(6))
    assert load(subset).fingerprint == load(graphs()).fingerprint


def test_features_without_columns_are_no_features():
    bare = graphs()
    for one in bare:
        one.x = torch.zeros(3, 0)
    assert load(bare).features == 3


def test_an_empty_name_is_refused():
    with pytest.raises(InputError, match=r"data has no name; give a name or a path\."):
        load("")
