"""How many graphs a condensed set has, of how many nodes, and what they are before the first step."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings
from attar.graphs.collection import GraphCollection
from attar.graphs.sources import GraphSource

Gpc = Annotated[int, Range(1)] | tuple[Annotated[int, Range(1)], ...]
"""Graphs per class: one number for all classes, or one for each."""


@dataclass(frozen=True)
class Start:
    """Graphs of one size, class after class."""

    features: Float[Tensor, "graph node feature"]
    adjacency: Float[Tensor, "graph node node"]
    """Of real graphs 0 or 1; of noise anything between."""
    density: float
    """s0: the mean entry of the adjacency of real graphs, padding and diagonal included."""


@dataclass(frozen=True, kw_only=True)
class Counts(Settings):
    """How many graphs there are to be."""

    gpc: Gpc = 10
    """Graphs per class: one number for all, or one for each class in turn."""
    ratio: Annotated[float, Range(0, 1)] | None = None
    """Share r of the training graphs, in place of --gpc: max(⌊r·n⌋, 1) of a class, and what is left of r·N of the
    largest."""

    def resolve(self, source: GraphSource, runtime: Runtime) -> Self:
        """Fill in what was left open.

        Raises:
            InputError: Numbers for more or fewer classes than there are.
        """
        if self.ratio is not None:
            return replace(self, gpc=proportional([len(rows) for rows in source.rows_of], self.ratio))
        per_class(self.gpc, source)
        return self


@dataclass(frozen=True, kw_only=True)
class Sized(Counts):
    """Graphs of one size, whatever the real ones have."""

    nodes: Annotated[int, Range(1)] | None = None
    """Nodes N of every graph; the mean of the training graphs unless given."""
    start: Literal["real", "noise"] = "real"
    """What the result is before the first step: real graphs of at most N nodes drawn at random, or uniform
    noise."""
    fill: Literal["cut", "repeat"] = "cut"
    """Where a class has too few graphs of at most N nodes: take larger ones, of which the N nodes of highest degree
    are kept, or take those that fit more than once."""

    def resolve(self, source: GraphSource, runtime: Runtime) -> Self:
        """Fill in what was left open.

        Raises:
            InputError: More real graphs than a class has, or a start that there is nothing for.
        """
        made = super().resolve(source, runtime)
        if self.start == "real":
            check_enough_graphs(made.gpc, source)
        mean = max(1, round(float(source.train.sizes.float().mean())))
        return replace(made, nodes=self.nodes or mean)

    def begin(self, source: GraphSource, runtime: Runtime) -> Start:
        """The graphs to start from; the same for every method with the same seed and numbers."""
        assert self.nodes is not None, "resolve the settings first"
        counts, generator = per_class(self.gpc, source), runtime.generator("start")
        if self.start == "real":
            return real_start(source, counts, self.nodes, self.fill, generator)
        shape = (sum(counts), self.nodes)
        features = torch.rand(*shape, source.features, generator=generator)
        adjacency = torch.rand(*shape, self.nodes, generator=generator)
        return Start(features, adjacency, mean_density(source.train, self.nodes))


def real_start(
    source: GraphSource, counts: tuple[int, ...], nodes: int, fill: Literal["cut", "repeat"], generator: torch.Generator
) -> Start:
    """Real graphs of at most so many nodes, padded to that, drawn by class.

    Raises:
        InputError: To be repeated, and a class has none that fits.
    """
    chosen = []
    for name, rows, count in zip(source.classes, source.rows_of, counts, strict=True):
        rows = rows[torch.randperm(len(rows), generator=generator)]
        fitting = source.train.sizes[rows] <= nodes
        small, large = rows[fitting], rows[~fitting]
        if fill == "cut":
            chosen.append(torch.cat([small, large])[:count])
        elif len(small) == 0:
            raise InputError(
                f"class {name!r} of {source.name} has no graph of at most {nodes} nodes; "
                "give more --nodes, or --fill cut."
            )
        else:
            chosen.append(small.repeat(-(-count // len(small)))[:count])
    graphs = cut(source.train.select(torch.cat(chosen)), nodes).padded(nodes)
    return Start(graphs.features, graphs.adjacency, float(graphs.adjacency.mean()))


def cut(graphs: GraphCollection, nodes: int) -> GraphCollection:
    """Of every graph the nodes of highest degree, so many at most, in their order, and the edges between them."""
    order = torch.argsort(graphs.degrees, descending=True, stable=True)
    order = order[torch.argsort(graphs.graph_of[order], stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - graphs.starts[graphs.graph_of[order]]
    kept = rank < nodes
    number = kept.cumsum(0) - 1
    edges = graphs.edges[:, kept[graphs.edges].all(dim=0)]
    sizes = graphs.sizes.clamp_max(nodes)
    return GraphCollection(graphs.features[kept], number[edges], sizes, graphs.labels)


def mean_density(graphs: GraphCollection, nodes: int) -> float:
    """The mean entry of the adjacency that real graphs have when they are cut or padded to so many nodes."""
    small = cut(graphs, nodes)
    return small.edges.shape[1] / (len(small) * nodes**2)


def per_class(gpc: Gpc, source: GraphSource) -> tuple[int, ...]:
    """The number of graphs of each class.

    Raises:
        InputError: Numbers for more or fewer classes.
    """
    classes = len(source.classes)
    if isinstance(gpc, int):
        return (gpc,) * classes
    if len(gpc) != classes:
        raise InputError(f"gpc has {len(gpc)} numbers for {classes} classes; give one for all, or one for each class.")
    return gpc


def labels_of(counts: tuple[int, ...]) -> Int[Tensor, " graph"]:
    """The labels of a condensed set, class after class."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def proportional(sizes: list[int], ratio: float) -> tuple[int, ...]:
    """Graphs of each class by a ratio: max(⌊r·n⌋, 1), and for the largest class what is left of ⌊r·N⌋, one at least."""
    counts = [max(int(ratio * size), 1) for size in sizes]
    largest = sizes.index(max(sizes))
    counts[largest] = max(int(ratio * sum(sizes)) - (sum(counts) - counts[largest]), 1)
    return tuple(counts)


def check_enough_graphs(gpc: Gpc, source: GraphSource) -> None:
    """Refuse to choose more graphs than a class has."""
    wanted = per_class(gpc, source)
    for rows, count, name in zip(source.rows_of, wanted, source.classes, strict=True):
        if count > len(rows):
            raise InputError(
                f"gpc is {count}, but class {name!r} of {source.name} has {len(rows)} training graphs. "
                f"Start a learning method from noise (--start noise), or ask for {len(rows)} or fewer."
            )
