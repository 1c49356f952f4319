"""Joined graphs of many sizes: the nodes of all graphs one after the other, and the edges between them.

Nothing is padded, so a set takes the memory of its nodes and edges only. A batch for a network is cut out of it by
whole ranges. Edges are undirected with weight one. Both directions are stored.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.graphs.structures import JoinedGraphs, PaddedGraphs


@dataclass(frozen=True)
class GraphCollection:
    """Labelled graphs, one after the other."""

    features: Float[Tensor, "node feature"]
    """Features of all nodes."""
    edges: Int[Tensor, "2 edge"]
    """Both directions of each edge, sorted by the first node. Nodes are numbered through the whole collection."""
    sizes: Int[Tensor, " graph"]
    """Number of nodes of each graph."""
    labels: Int[Tensor, " graph"]
    """Class number of each graph."""

    @classmethod
    def of(cls, features: Tensor, edges: Tensor, sizes: Tensor, labels: Tensor) -> Self:
        """Make a collection from edges in any order. Loops and repetitions are dropped, missing directions added."""
        kept = edges[:, edges[0] != edges[1]].long()
        nodes = len(features)
        codes = torch.cat([kept[0] * nodes + kept[1], kept[1] * nodes + kept[0]]).unique()
        return cls(features, torch.stack([codes // max(nodes, 1), codes % max(nodes, 1)]), sizes.long(), labels.long())

    @classmethod
    def from_dense(
        cls,
        features: Float[Tensor, "graph node feature"],
        adjacency: Bool[Tensor, "graph node node"],
        sizes: Int[Tensor, " graph"],
        labels: Int[Tensor, " graph"],
    ) -> Self:
        """Make a collection from padded tensors. The first `sizes` nodes of each graph belong to it."""
        mask = torch.arange(features.shape[1]) < sizes.unsqueeze(1)
        graph, first, second = torch.nonzero(adjacency & mask.unsqueeze(2) & mask.unsqueeze(1), as_tuple=True)
        starts = sizes.cumsum(0) - sizes
        return cls(features[mask], torch.stack([starts[graph] + first, starts[graph] + second]), sizes, labels)

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def starts(self) -> Int[Tensor, " graph"]:
        """The number of the first node of each graph."""
        return self.sizes.cumsum(0) - self.sizes

    @cached_property
    def graph_of(self) -> Int[Tensor, " node"]:
        """The number of the graph of each node."""
        return torch.arange(len(self)).repeat_interleave(self.sizes)

    @cached_property
    def degrees(self) -> Int[Tensor, " node"]:
        """The number of neighbours of each node."""
        return torch.bincount(self.edges[0], minlength=len(self.features))

    @cached_property
    def edge_counts(self) -> Int[Tensor, " graph"]:
        """The number of edges of each graph, with both directions counted."""
        return torch.bincount(self.graph_of[self.edges[0]], minlength=len(self))

    @property
    def bytes(self) -> int:
        """Size in bytes, as stored in an artefact: 4 per feature, 8 per edge, 4 per size and 8 per label."""
        return 4 * self.features.numel() + 4 * self.edges.shape[1] + 12 * len(self)

    def select(self, rows: Int[Tensor, " row"]) -> Self:
        """The graphs of the given rows, in this order."""
        nodes = ranges(self.starts[rows], self.sizes[rows])
        edge_starts = self.edge_counts.cumsum(0) - self.edge_counts
        counts = self.edge_counts[rows]
        sizes = self.sizes[rows]
        shift = (sizes.cumsum(0) - sizes - self.starts[rows]).repeat_interleave(counts)
        edges = self.edges[:, ranges(edge_starts[rows], counts)] + shift
        return dataclasses.replace(
            self, features=self.features[nodes], edges=edges, sizes=sizes, labels=self.labels[rows]
        )

    def padded(self, nodes: int | None = None) -> PaddedGraphs:
        """All graphs as dense tensors of `nodes` nodes. Default: the number of nodes of the largest graph."""
        nodes = nodes or int(self.sizes.max())
        place = torch.arange(len(self.features)) - self.starts[self.graph_of]
        features = self.features.new_zeros(len(self), nodes, self.features.shape[1])
        features[self.graph_of, place] = self.features
        adjacency = self.features.new_zeros(len(self), nodes, nodes)
        first, second = self.edges
        adjacency[self.graph_of[first], place[first], place[second]] = 1
        return PaddedGraphs(features, adjacency, torch.arange(nodes) < self.sizes.unsqueeze(1))

    def joined(self, rows: Int[Tensor, " row"] | None = None, device: torch.device | str = "cpu") -> JoinedGraphs:
        """The graphs of the given rows as one batch for a network. Default: all graphs."""
        rows = torch.arange(len(self)) if rows is None else rows
        nodes = ranges(self.starts[rows], self.sizes[rows])
        columns, normalised, plain, row_starts = self._pattern
        sizes = self.sizes[rows]
        counts = row_starts[self.starts[rows] + sizes] - row_starts[self.starts[rows]]
        entries = ranges(row_starts[self.starts[rows]], counts)
        shift = (sizes.cumsum(0) - sizes - self.starts[rows]).repeat_interleave(counts)
        in_row = (row_starts[1:] - row_starts[:-1])[nodes]
        return JoinedGraphs(
            features=self.features.index_select(0, nodes).to(device),
            smoothed=self._smoothed.index_select(0, nodes).to(device),
            row_starts=torch.cat([in_row.new_zeros(1), in_row.cumsum(0)]).int().to(device),
            columns=(columns.index_select(0, entries) + shift).int().to(device),
            normalised_weights=normalised.index_select(0, entries).to(device),
            plain_weights=plain.index_select(0, entries).to(device),
            sizes=sizes.to(device),
        )

    @cached_property
    def _pattern(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A + I by rows: columns, weights of D^-1/2 (A + I) D^-1/2, weights of A alone, and the starts of rows."""
        loops = torch.arange(len(self.features))
        rows, columns = torch.cat([self.edges, torch.stack([loops, loops])], dim=1)
        order = torch.argsort(rows * max(len(loops), 1) + columns)
        rows, columns = rows[order], columns[order]
        scale = (self.degrees + 1).to(self.features.dtype).rsqrt()
        plain = (rows != columns).to(self.features.dtype)
        row_starts = torch.cat([loops.new_zeros(1), (self.degrees + 1).cumsum(0)])
        return columns, scale[rows] * scale[columns], plain, row_starts

    @cached_property
    def _smoothed(self) -> Float[Tensor, "node feature"]:
        """The normalised features D^-1/2 (A + I) D^-1/2 X, which a GCN's first layer needs; computed once."""
        columns, normalised, _, _ = self._pattern
        rows = torch.arange(len(self.features)).repeat_interleave(self.degrees + 1)
        messages = normalised.unsqueeze(1) * self.features[columns]
        return torch.zeros_like(self.features).index_add_(0, rows, messages)


def ranges(starts: Int[Tensor, " range"], counts: Int[Tensor, " range"]) -> Int[Tensor, " place"]:
    """The places of all ranges: `counts[0]` places from `starts[0]` on, then those of the next range, and so on."""
    ends = counts.cumsum(0)
    shift = (starts - (ends - counts)).repeat_interleave(counts)
    return torch.arange(len(shift)) + shift
