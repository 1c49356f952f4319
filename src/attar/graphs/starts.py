"""The size of a condensed set: its graphs per class and their nodes; and the graphs before the first step."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.selection import PerClass, check_enough, per_class, shuffled
from attar.core.settings import Range, Settings
from attar.graphs.collection import GraphCollection
from attar.graphs.sources import GraphSource


@dataclass(frozen=True)
class Start:
    """The graphs before the first step, all of one size, sorted by class."""

    features: Float[Tensor, "graph node feature"]
    adjacency: Float[Tensor, "graph node node"]
    """Weights of edges: 0 or 1 for real graphs, anything between for noise."""
    density: float
    """Mean entry s0 of the adjacency of real graphs, padding and diagonal included."""


@dataclass(frozen=True, kw_only=True)
class Counts(Settings):
    """Settings of the number of graphs."""

    kind = "graphs"

    gpc: PerClass = 10
    """Number of graphs per class: one number for all classes, or one for each class in turn."""
    ratio: Annotated[float, Range(0, 1)] | None = None
    """Share r of the training graphs to have, in place of --gpc. A class of n graphs has max(⌊r·n⌋, 1) of them. The
    largest class has what the others leave of ⌊r·N⌋, with N the number of training graphs."""

    def resolve(self, source: GraphSource, runtime: Runtime) -> Self:
        """Fill in the settings that depend on the data.

        Raises:
            InputError: There are more or fewer numbers than classes.
        """
        if self.ratio is not None:
            return replace(self, gpc=by_ratio([len(rows) for rows in source.rows_of], self.ratio))
        self.counts(source)
        return self

    def counts(self, source: GraphSource) -> tuple[int, ...]:
        """The number of graphs of each class.

        Raises:
            InputError: There are more or fewer numbers than classes.
        """
        return per_class(self.gpc, len(source.classes), "gpc")

    def check_enough(self, source: GraphSource) -> None:
        """Raise an `InputError` if more graphs are chosen than a class has."""
        check_enough(self.gpc, source, setting="gpc", samples="training graphs")


@dataclass(frozen=True, kw_only=True)
class Sized(Counts):
    """Settings of graphs of one size, which does not depend on the sizes of the real graphs."""

    nodes: Annotated[int, Range(1)] | None = None
    """Number N of nodes of every graph. Default: the mean of the training graphs."""
    start: Literal["real", "noise"] = "real"
    """What the result is before the first step: real graphs of at most N nodes drawn at random, or uniform noise."""
    fill: Literal["cut", "repeat"] = "cut"
    """Remedy if a class has too few graphs of at most N nodes. cut takes larger graphs and keeps their N nodes of
    highest degree. repeat takes those that fit more than once."""

    def resolve(self, source: GraphSource, runtime: Runtime) -> Self:
        """Fill in the settings that depend on the data.

        Raises:
            InputError: More real graphs are chosen than a class has.
        """
        made = super().resolve(source, runtime)
        if self.start == "real":
            made.check_enough(source)
        mean = max(1, round(float(source.train.sizes.float().mean())))
        return replace(made, nodes=self.nodes or mean)

    def begin(self, source: GraphSource, runtime: Runtime) -> Start:
        """The graphs to start from, which are the same for all methods with the same seed and numbers."""
        assert self.nodes is not None, "resolve the settings first"
        counts, generator = self.counts(source), runtime.generator("start")
        if self.start == "real":
            return real_start(source, counts, self.nodes, self.fill, generator)
        shape = (sum(counts), self.nodes)
        features = torch.rand(*shape, source.features, generator=generator)
        adjacency = torch.rand(*shape, self.nodes, generator=generator)
        return Start(features, adjacency, mean_density(source.train, self.nodes))


def real_start(
    source: GraphSource, counts: tuple[int, ...], nodes: int, fill: Literal["cut", "repeat"], generator: torch.Generator
) -> Start:
    """Draw real graphs of at most `nodes` nodes by class, and pad them to that size.

    Raises:
        InputError: `fill` is `repeat`, and a class has no graph of at most `nodes` nodes.
    """
    chosen = []
    for name, rows, count in zip(source.classes, source.rows_of, counts, strict=True):
        rows = shuffled(rows, generator)
        fitting = source.train.sizes[rows] <= nodes
        small, large = rows[fitting], rows[~fitting]
        if fill == "cut":
            chosen.append(torch.cat([small, large])[:count])
        elif len(small) == 0:
            raise InputError(
                f"class {name!r} of {source.name} has no graph of at most {nodes} nodes. "
                "Give more --nodes, or --fill cut."
            )
        else:
            chosen.append(small.repeat(-(-count // len(small)))[:count])
    graphs = cut(source.train.select(torch.cat(chosen)), nodes).padded(nodes)
    return Start(graphs.features, graphs.adjacency, float(graphs.adjacency.mean()))


def cut(graphs: GraphCollection, nodes: int) -> GraphCollection:
    """Keep at most `nodes` nodes of highest degree of every graph, in their order, and the edges between them."""
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
    """The mean entry of the adjacency of real graphs that are cut or padded to `nodes` nodes."""
    small = cut(graphs, nodes)
    return small.edges.shape[1] / (len(small) * nodes**2)


def by_ratio(sizes: list[int], ratio: float) -> tuple[int, ...]:
    """The number of graphs of each class by a ratio r.

    It is max(⌊r·n⌋, 1) for a class of n graphs. The largest class has what is left of ⌊r·N⌋, but at least one.
    """
    counts = [max(int(ratio * size), 1) for size in sizes]
    largest = sizes.index(max(sizes))
    counts[largest] = max(int(ratio * sum(sizes)) - (sum(counts) - counts[largest]), 1)
    return tuple(counts)
