"""Reads graphs of PyTorch Geometric: a data set, a batch, or any sequence of its `Data`."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.graphs.collection import GraphCollection
from attar.graphs.tu import LARGEST_WHOLE, RawSet, one_hot_degrees

READ = ("x", "edge_index", "y", "num_nodes", "batch", "ptr")
"""Attributes of a graph that are read, or that say nothing more; networks here use no others."""


def read_pyg(data: Any) -> RawSet:
    """Graphs of PyTorch Geometric as one collection. Without features, the degree of a node is its feature.

    Args:
        data: Graphs with `edge_index` of shape `[2, edge]`, a single whole number `y`, and `x` of shape
            `[node, feature]` in all graphs or in none.

    Raises:
        InputError: Something else, or a graph that does not fit, by its number.
    """
    given = data.to_data_list() if hasattr(data, "to_data_list") else data
    if not isinstance(given, (Iterable, dict)) and hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        given = [given[number] for number in range(len(given))]  # torch's Subset
    graphs = list(given) if isinstance(given, Iterable) and not isinstance(given, dict) else []
    if not graphs or not all(hasattr(one, "edge_index") for one in graphs):
        raise InputError("give graphs as a name, a folder, or a sequence of torch_geometric.data.Data.")
    features = _features(graphs)
    sizes = [_nodes(one, number) for number, one in enumerate(graphs)]
    edges = [_edges(one, size, number) for number, (one, size) in enumerate(zip(graphs, sizes, strict=True))]
    answers = torch.stack([_label(one, number) for number, one in enumerate(graphs)])
    counts = torch.tensor(sizes)
    starts = (counts.cumsum(0) - counts).tolist()
    joined = torch.cat([pairs + start for pairs, start in zip(edges, starts, strict=True)], dim=1)
    classes, labels = answers.unique(return_inverse=True)
    bare = GraphCollection.of(torch.zeros(sum(sizes), 0), joined, counts, labels)
    found = torch.cat(features) if features else one_hot_degrees(bare)
    return RawSet(
        "graphs",
        tuple(str(value) for value in classes.tolist()),
        GraphCollection(found, bare.edges, bare.sizes, bare.labels),
        unused=tuple(sorted({name for one in graphs for name in _others(one)})),
    )


def _others(one: Any) -> list[str]:
    """Names of a graph's tensors that are not read."""
    return [name for name in one.keys() if name not in READ and isinstance(one[name], Tensor)]  # noqa: SIM118


def _dense(one: Any, name: str, number: int) -> Tensor:
    """An attribute of a graph as a plain tensor.

    Raises:
        InputError: It is sparse, or not made of numbers.
    """
    value = getattr(one, name)
    try:
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} of graph {number} is a {type(value).__name__} without numbers.") from None
    if tensor.layout != torch.strided:
        raise InputError(f"{name} of graph {number} is sparse; give a dense tensor.")
    return tensor.detach().cpu()


def _features(graphs: Sequence[Any]) -> list[Float[Tensor, "node feature"]]:
    """The features of each graph; an empty list if no graph has any."""
    with_features = [number for number, one in enumerate(graphs) if one.x is not None]
    if not with_features:
        return []
    if len(with_features) < len(graphs):
        without = next(number for number, one in enumerate(graphs) if one.x is None)
        raise InputError(f"graph {without} has no features x, but graph {with_features[0]} has some.")
    found: list[Tensor] = []
    for number, one in enumerate(graphs):
        values = _dense(one, "x", number)
        if values.is_complex():
            raise InputError(f"the features x of graph {number} are complex; give real numbers.")
        if values.ndim not in (1, 2):
            raise InputError(
                f"the features x of graph {number} have the shape {list(values.shape)}, not [node, feature]."
            )
        values = values.unsqueeze(1) if values.ndim == 1 else values
        if found and values.shape[1] != found[0].shape[1]:
            raise InputError(
                f"graph {number} has {values.shape[1]} features a node, but graph 0 has {found[0].shape[1]}."
            )
        if not values.float().isfinite().all():
            raise InputError(f"the features x of graph {number} hold values that are not finite numbers.")
        found.append(values.float())
    return found if found[0].shape[1] else []


def _nodes(one: Any, number: int) -> int:
    """The number of nodes of a graph, which its features must have as well."""
    nodes = one.x.shape[0] if one.x is not None else one.num_nodes
    if not nodes:
        raise InputError(f"graph {number} has no nodes.")
    if one.num_nodes != nodes:
        raise InputError(f"graph {number} has {one.num_nodes} nodes, but features x of {nodes}.")
    return int(nodes)


def _edges(one: Any, nodes: int, number: int) -> Int[Tensor, "2 edge"]:
    """The edges of a graph, with its nodes counted from zero."""
    if one.edge_index is None:
        raise InputError(f"graph {number} has no edge_index; give one of shape [2, 0] if there are no edges.")
    edges = _dense(one, "edge_index", number)
    if edges.ndim != 2 or len(edges) != 2:
        hint = " Transpose it." if edges.ndim == 2 and edges.shape[1] == 2 else ""
        raise InputError(f"edge_index of graph {number} has the shape {list(edges.shape)}, not [2, edge].{hint}")
    if edges.is_floating_point() or edges.is_complex() or edges.dtype == torch.bool:
        raise InputError(f"edge_index of graph {number} is of type {edges.dtype}; it must hold whole numbers.")
    outside = edges[(edges < 0) | (edges >= nodes)]
    if outside.numel():
        raise InputError(
            f"edge_index of graph {number} names node {int(outside[0])}, but its nodes are 0 to {nodes - 1}."
        )
    return edges.long()


def _label(one: Any, number: int) -> Int[Tensor, ""]:
    """The class of a graph."""
    if getattr(one, "y", None) is None:
        raise InputError(f"graph {number} has no label y.")
    answer = _dense(one, "y", number)
    if answer.numel() != 1:
        raise InputError(f"graph {number} has {answer.numel()} values in its label y; it must have one.")
    value = answer.reshape(())
    whole = not value.is_complex() and value.double() == value.double().round()
    if not whole or not value.double().abs() < LARGEST_WHOLE:
        raise InputError(f"the label y of graph {number} is {value.item()}; it must be the whole number of a class.")
    return value.long()
