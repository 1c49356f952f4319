"""Graphs of many sizes, joined: the nodes of all of them one after the other, and the edges between them.

Nothing is padded, so a set takes the memory of its nodes and edges, and a batch for a network is cut out of it by
whole ranges. Edges are undirected and weigh one; both directions are held.
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
    """Of all nodes."""
    edges: Int[Tensor, "2 edge"]
    """Both directions of each edge, sorted by their first end; nodes are numbered through the whole collection."""
    sizes: Int[Tensor, " graph"]
    """Nodes of each graph."""
    labels: Int[Tensor, " graph"]
    """Classes by number."""

    @classmethod
    def of(cls, features: Tensor, edges: Tensor, sizes: Tensor, labels: Tensor) -> Self:
        """From edges in any order: loops and repetitions are dropped, missing directions are added."""
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
        """From padded tensors, of which the first `sizes` nodes of each graph are its own."""
        mask = torch.arange(features.shape[1]) < sizes.unsqueeze(1)
        graph, first, second = torch.nonzero(adjacency & mask.unsqueeze(2) & mask.unsqueeze(1), as_tuple=True)
        starts = sizes.cumsum(0) - sizes
        return cls(features[mask], torch.stack([starts[graph] + first, starts[graph] + second]), sizes, labels)

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def starts(self) -> Int[Tensor, " graph"]:
        """The first node of each graph."""
        return self.sizes.cumsum(0) - self.sizes

    @cached_property
    def graph_of(self) -> Int[Tensor, " node"]:
        """The graph of each node."""
        return torch.arange(len(self)).repeat_interleave(self.sizes)

    @cached_property
    def degrees(self) -> Int[Tensor, " node"]:
        """Neighbours of each node."""
        return torch.bincount(self.edges[0], minlength=len(self.features))

    @cached_property
    def edge_counts(self) -> Int[Tensor, " graph"]:
        """Edges of each graph, both directions counted."""
        return torch.bincount(self.graph_of[self.edges[0]], minlength=len(self))

    @property
    def bytes(self) -> int:
        """Stored as an artefact stores graphs: 4 bytes a feature, 8 an edge, 4 a size and 8 a label."""
        return 4 * self.features.numel() + 4 * self.edges.shape[1] + 12 * len(self)

    def select(self, rows: Int[Tensor, " row"]) -> Self:
        """Some of the graphs, in this order."""
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
        """All graphs as dense tensors of so many nodes each, or of as many as the largest has."""
        nodes = nodes or int(self.sizes.max())
        place = torch.arange(len(self.features)) - self.starts[self.graph_of]
        features = self.features.new_zeros(len(self), nodes, self.features.shape[1])
        features[self.graph_of, place] = self.features
        adjacency = self.features.new_zeros(len(self), nodes, nodes)
        first, second = self.edges
        adjacency[self.graph_of[first], place[first], place[second]] = 1
        return PaddedGraphs(features, adjacency, torch.arange(nodes) < self.sizes.unsqueeze(1))

    def joined(self, rows: Int[Tensor, " row"] | None = None, device: torch.device | str = "cpu") -> JoinedGraphs:
        """Some of the graphs, or all, as one batch for a network."""
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
        """A + I by rows: columns, weights of D^-1/2 (A + I) D^-1/2, weights of A alone, and where each row begins."""
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
        """What every graph convolution does first, done once: D^-1/2 (A + I) D^-1/2 X."""
        columns, normalised, _, _ = self._pattern
        rows = torch.arange(len(self.features)).repeat_interleave(self.degrees + 1)
        messages = normalised.unsqueeze(1) * self.features[columns]
        return torch.zeros_like(self.features).index_add_(0, rows, messages)


def ranges(starts: Int[Tensor, " range"], counts: Int[Tensor, " range"]) -> Int[Tensor, " place"]:
    """`starts[0], starts[0] + 1, ...`, so many as counted, then those of the next start."""
    ends = counts.cumsum(0)
    shift = (starts - (ends - counts)).repeat_interleave(counts)
    return torch.arange(len(shift)) + shift
