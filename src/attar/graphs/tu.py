"""Reads the text files of a TU set (Morris et al., ICML workshop 2020, arXiv:2007.08663). Cached files are not read.

`NAME_A.txt` has one edge per line. `NAME_graph_indicator.txt` has the graph of every node, and `NAME_graph_labels.txt`
the class of every graph. Nodes and graphs are counted from one. `NAME_node_labels.txt` and `NAME_node_attributes.txt`
are optional.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.graphs.collection import GraphCollection

UNUSED_FILES = ("edge_labels", "edge_attributes", "graph_attributes")
"""Files that say more about edges and graphs; networks here do not use them."""
LARGEST_WHOLE = 2**53
"""From here on not every whole number is a float64."""
MOST_DEGREES = 64
"""Largest degree with its own column if nodes have neither labels nor attributes; larger degrees share the last one."""


@dataclass(frozen=True)
class RawSet:
    """A labelled set of graphs, as read from files."""

    name: str
    classes: tuple[str, ...]
    graphs: GraphCollection
    attributes: tuple[int, ...] = ()
    """Columns of the features that hold measured numbers instead of one-hot node labels."""
    unused: tuple[str, ...] = ()
    """What came with the graphs and is not used, by name."""


def find_tu(path: Path) -> tuple[Path, str] | None:
    """The folder of a set's text files and the set's name; None if a path does not lead to a set.

    A path may be the set's folder, the folder above its `raw`, or `folder/NAME` for files called NAME_A.txt.

    Raises:
        InputError: The folder holds several sets.
    """
    if (path.parent / f"{path.name}_A.txt").is_file():
        return path.parent, path.name
    for folder in (path, path / "raw"):
        found = sorted(file.name.removesuffix("_A.txt") for file in folder.glob("*_A.txt"))
        if len(found) > 1:
            raise InputError(f"{path} holds several TU sets ({', '.join(found)}). Give one, as {folder / found[0]}.")
        if found:
            return folder, found[0]
    below = sorted(child.name for child in path.iterdir() if child.is_dir()) if path.is_dir() else []
    sets = [name for name in below if find_tu(path / name)]
    if sets:
        raise InputError(f"{path} holds several TU sets ({', '.join(sets)}). Give one, as {path / sets[0]}.")
    return None


def read_tu(folder: Path, name: str) -> RawSet:
    """Read one set.

    Raises:
        InputError: A file is missing, truncated or malformed, or the files disagree about the number of nodes.
    """
    indicator = _column(folder / f"{name}_graph_indicator.txt")
    answers = _column(folder / f"{name}_graph_labels.txt")
    graphs, nodes = len(answers), len(indicator)
    if nodes and indicator.min() < 1:
        raise InputError(
            f"{folder / f'{name}_graph_indicator.txt'} names graph {indicator.min()}, but graphs are counted from 1."
        )
    if nodes == 0 or indicator.max() > graphs:
        raise InputError(
            f"{folder / f'{name}_graph_indicator.txt'} names graphs up to {indicator.max(initial=0)}, but "
            f"{name}_graph_labels.txt has {graphs} lines; a file is truncated."
        )
    order = np.argsort(indicator, kind="stable")
    place = np.empty(nodes, dtype=np.int64)
    place[order] = np.arange(nodes)
    sizes = np.bincount(indicator - 1, minlength=graphs)
    if sizes.min() == 0:
        raise InputError(f"graph {sizes.argmin() + 1} of {name} has no nodes; a file may be truncated.")
    edges = _edges(folder / f"{name}_A.txt", indicator)
    classes, labels = np.unique(answers, return_inverse=True)
    bare = GraphCollection.of(
        torch.zeros(nodes, 0),
        torch.from_numpy(place[edges].T.copy()),
        torch.from_numpy(sizes),
        torch.from_numpy(labels),
    )
    marks = _node_labels(folder / f"{name}_node_labels.txt", nodes, order)
    measured = _node_attributes(folder / f"{name}_node_attributes.txt", nodes, order)
    parts = [part for part in (marks, measured) if part is not None] or [one_hot_degrees(bare)]
    width, columns = sum(part.shape[1] for part in parts), measured.shape[1] if measured is not None else 0
    return RawSet(
        name,
        tuple(str(value) for value in classes),
        GraphCollection(torch.cat(parts, dim=1), bare.edges, bare.sizes, bare.labels),
        tuple(range(width - columns, width)),
        unused=tuple(part for part in UNUSED_FILES if (folder / f"{name}_{part}.txt").exists()),
    )


def one_hot_degrees(graphs: GraphCollection) -> Float[Tensor, "node degree"]:
    """One-hot degrees: a column for each degree from 0 to the largest that occurs, at most `MOST_DEGREES`."""
    degrees = graphs.degrees.clamp_max(MOST_DEGREES)
    return torch.eye(int(degrees.max()) + 1)[degrees]


def _edges(path: Path, indicator: np.ndarray) -> np.ndarray:
    """Edges as `[edge, 2]`, with nodes counted from zero."""
    edges = whole_numbers(_table(path), path)
    if edges.size and edges.shape[1] != 2:
        raise InputError(f"{path} has {edges.shape[1]} numbers per line; give two node numbers per line.")
    edges = edges.reshape(-1, 2)
    outside = (edges < 1) | (edges > len(indicator))
    if outside.any():
        line = int(np.nonzero(outside.any(axis=1))[0][0]) + 1
        raise InputError(
            f"line {line} of {path} names node {edges[line - 1][outside[line - 1]][0]}, but its nodes are 1 to "
            f"{len(indicator)}; one of the files may be truncated."
        )
    edges = edges - 1
    across = indicator[edges[:, 0]] != indicator[edges[:, 1]]
    if across.any():
        raise InputError(f"line {int(np.nonzero(across)[0][0]) + 1} of {path} joins nodes of two different graphs.")
    return edges


def _node_labels(path: Path, nodes: int, order: np.ndarray) -> Tensor | None:
    """One-hot node labels, with a block of columns for each column of the file."""
    if not path.exists():
        return None
    table = _of_every_node(path, whole_numbers(_table(path), path), nodes)[order]
    blocks = [np.unique(column, return_inverse=True) for column in table.T]
    return torch.cat([torch.eye(len(values))[torch.from_numpy(numbers)] for values, numbers in blocks], dim=1)


def _node_attributes(path: Path, nodes: int, order: np.ndarray) -> Tensor | None:
    if not path.exists():
        return None
    table = _of_every_node(path, _table(path), nodes)
    strange = ~(np.abs(table) <= np.finfo(np.float32).max)
    if strange.any():
        line = int(np.nonzero(strange.any(axis=1))[0][0]) + 1
        raise InputError(f"line {line} of {path} holds {table[line - 1][strange[line - 1]][0]}; it must be a number.")
    return torch.from_numpy(table[order]).float()


def _of_every_node(path: Path, table: np.ndarray, nodes: int) -> np.ndarray:
    if len(table) != nodes:
        raise InputError(f"{path} has {len(table)} lines for {nodes} nodes; one of the files is truncated.")
    return table


def _column(path: Path) -> np.ndarray:
    table = whole_numbers(_table(path), path)
    if table.size and table.shape[1] != 1:
        raise InputError(f"{path} has {table.shape[1]} numbers per line; it must have one.")
    return table.reshape(-1)


def whole_numbers(table: np.ndarray, path: Path) -> np.ndarray:
    """A table of whole numbers, which a file may write as `1` or `1.0`.

    Raises:
        InputError: A number is not whole, not finite, or too large; the file and the line are named.
    """
    strange = ~(np.abs(table) < LARGEST_WHOLE) | (table != np.round(table))
    if strange.any():
        line = int(np.nonzero(strange.any(axis=1))[0][0])
        value = table[line][strange[line]][0]
        raise InputError(f"line {line + 1} of {path} holds {value:g}; it must be a whole number.")
    return table.astype(np.int64)


def _table(path: Path) -> np.ndarray:
    """A table of numbers, with one row per line. Numbers are separated by commas or, where there is none, by spaces."""
    if not path.is_file():
        raise InputError(f"{path} is missing.")
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not lines:
            return np.empty((0, 1))
        return np.loadtxt(lines, dtype=np.float64, delimiter="," if "," in lines[0] else None, ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged or truncated: {str(error).rstrip('.')}.") from None
