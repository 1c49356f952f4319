"""A batch of graphs in two forms, joined without padding or padded and dense. A network computes the same on both.

Real graphs are joined, because products with a sparse matrix are fastest. Learned graphs are dense, because a gradient
has to reach every possible edge. Every network is written with the few operations that both forms have.
"""

import warnings
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Pooling = Literal["mean", "sum"]
Nodes = Float[Tensor, "*nodes _channel"]
"""A vector for every node: `[node, channel]` for joined graphs, `[graph, node, channel]` for padded graphs."""
Heads = Float[Tensor, "*nodes head"]


@dataclass(frozen=True)
class JoinedGraphs:
    """Graphs one after the other: node vectors in one matrix, and A + I as a sparse matrix. A must be symmetric."""

    features: Float[Tensor, "node feature"]
    smoothed: Float[Tensor, "node feature"]
    row_starts: Int[Tensor, " ends"]
    """Places at which the entries of each row of A + I begin, and the end of the last row."""
    columns: Int[Tensor, " entry"]
    normalised_weights: Float[Tensor, " entry"]
    plain_weights: Float[Tensor, " entry"]
    """Weights of A: one for an edge, zero for a loop."""
    sizes: Int[Tensor, " graph"]

    @cached_property
    def graph_of(self) -> Int[Tensor, " node"]:
        """The graph of each node."""
        numbers = torch.arange(len(self.sizes), device=self.sizes.device)
        return numbers.repeat_interleave(self.sizes, output_size=len(self.features))

    @cached_property
    def _normalised(self) -> Tensor:
        return self._matrix(self.normalised_weights)

    @cached_property
    def _plain(self) -> Tensor:
        return self._matrix(self.plain_weights)

    @cached_property
    def _rows(self) -> Int[Tensor, " entry"]:
        counts = (self.row_starts[1:] - self.row_starts[:-1]).long()
        rows = torch.arange(len(self.features), device=self.columns.device)
        return rows.repeat_interleave(counts, output_size=len(self.columns))

    @cached_property
    def _members(self) -> tuple[Tensor, Tensor]:
        """The membership of nodes in graphs, as a sparse matrix, and its transpose."""
        nodes, graphs = len(self.features), len(self.sizes)
        node = torch.arange(nodes + 1, device=self.sizes.device, dtype=torch.int32)
        starts = torch.cat([node[:1], self.sizes.cumsum(0).int()])
        ones = self.features.new_ones(nodes)
        by_graph = sparse_rows(starts, node[:-1], ones, (graphs, nodes))
        return by_graph, sparse_rows(node, self.graph_of.int(), ones, (nodes, graphs))

    def _matrix(self, weights: Tensor) -> Tensor:
        nodes = len(self.features)
        return sparse_rows(self.row_starts, self.columns, weights, (nodes, nodes))

    def normalised(self, h: Nodes) -> Nodes:
        """The product D^-1/2 (A + I) D^-1/2 h."""
        spread: Tensor = _Spread.apply(h, self._normalised, self._normalised)
        return spread

    def sum(self, h: Nodes) -> Nodes:
        """The sum over neighbours, A h."""
        spread: Tensor = _Spread.apply(h, self._plain, self._plain)
        return spread

    def mean(self, h: Nodes) -> Nodes:
        """The mean over neighbours."""
        degrees = (self.row_starts[1:] - self.row_starts[:-1] - 1).clamp_min(1)
        return self.sum(h) / degrees.unsqueeze(1)

    def attended(self, h: Float[Tensor, "*nodes head channel"], own: Heads, other: Heads) -> Tensor:
        """Means over neighbours i and the node j itself, weighted by softmax_i LeakyReLU(own_j + other_i), by head."""
        rows, columns = self._rows, self.columns.long()
        scores = F.leaky_relu(own[rows] + other[columns], 0.2)
        ceiling = torch.segment_reduce(scores.detach(), "max", offsets=self.row_starts.long(), axis=0)
        weights = (scores - ceiling[rows]).exp()
        total = torch.zeros_like(own).index_add(0, rows, weights)
        messages = (weights / total[rows]).unsqueeze(2) * h[columns]
        return torch.zeros_like(h).index_add(0, rows, messages)

    def pool(self, h: Nodes, how: Pooling) -> Float[Tensor, "graph channel"]:
        """The mean or the sum of the nodes' vectors: one vector for each graph."""
        total: Tensor = _Spread.apply(h, *self._members)
        return total / self.sizes.unsqueeze(1) if how == "mean" else total

    def centred(self, h: Nodes, epsilon: float) -> Nodes:
        """The vectors, with mean zero and variance one in each channel of each graph."""
        gap = h - self.pool(h, "mean")[self.graph_of]
        return gap * (self.pool(gap.square(), "mean") + epsilon).rsqrt()[self.graph_of]


@dataclass(frozen=True)
class PaddedGraphs:
    """Dense graphs, padded to one size. Edges that are being learned have weights between 0 and 1."""

    features: Float[Tensor, "graph node feature"]
    adjacency: Float[Tensor, "graph node node"]
    """Weights of edges, symmetric, with a zero diagonal."""
    mask: Bool[Tensor, "graph node"] | None = None
    """Whether a node belongs to the graph, instead of to its padding. Default: all nodes."""

    @cached_property
    def smoothed(self) -> Float[Tensor, "graph node feature"]:
        """The normalised features, `normalised(features)`."""
        return self.normalised(self.features)

    @cached_property
    def _looped(self) -> Float[Tensor, "graph node node"]:
        return self.adjacency + torch.eye(self.adjacency.shape[-1]).to(self.adjacency)

    @cached_property
    def normalised_adjacency(self) -> Float[Tensor, "graph node node"]:
        """The normalised adjacency, D^-1/2 (A + I) D^-1/2."""
        scale = self._looped.sum(dim=-1).clamp_min(1).rsqrt()
        return scale.unsqueeze(-1) * self._looped * scale.unsqueeze(-2)

    def normalised(self, h: Nodes) -> Nodes:
        """The product D^-1/2 (A + I) D^-1/2 h."""
        return self.normalised_adjacency @ h

    def sum(self, h: Nodes) -> Nodes:
        """The sum over neighbours, A h."""
        return self.adjacency @ h

    def mean(self, h: Nodes) -> Nodes:
        """The mean over neighbours. The sum is divided by the total weight of the edges, but at least by one."""
        return self.sum(h) / self.adjacency.sum(dim=-1, keepdim=True).clamp_min(1)

    def attended(self, h: Float[Tensor, "*nodes head channel"], own: Heads, other: Heads) -> Tensor:
        """Means over neighbours i and the node j itself, weighted by softmax_i LeakyReLU(own_j + other_i), by head.

        An edge of weight 1/2 counts by half.
        """
        scores = F.leaky_relu(own.unsqueeze(-2) + other.unsqueeze(-3), 0.2)  # [graph, node, neighbour, head]
        there = self._looped.unsqueeze(-1)
        ceiling = scores.detach().masked_fill(there == 0, -torch.inf).amax(dim=-2, keepdim=True)
        weights = there * (scores - ceiling).clamp_max(0).exp()
        return torch.einsum("gijh,gjhc->gihc", weights / weights.sum(dim=-2, keepdim=True), h)

    def pool(self, h: Nodes, how: Pooling) -> Float[Tensor, "graph channel"]:
        """The mean or the sum of the nodes' vectors: one vector for each graph."""
        if self.mask is None:
            return h.mean(dim=-2) if how == "mean" else h.sum(dim=-2)
        mask = self.mask.unsqueeze(-1).to(h.dtype)
        total = (h * mask).sum(dim=-2)
        return total / mask.sum(dim=-2) if how == "mean" else total

    def centred(self, h: Nodes, epsilon: float) -> Nodes:
        """The vectors, with mean zero and variance one in each channel of each graph."""
        gap = h - self.pool(h, "mean").unsqueeze(-2)
        return gap * (self.pool(gap.square(), "mean") + epsilon).rsqrt().unsqueeze(-2)


Graphs = JoinedGraphs | PaddedGraphs
"""The input of a network. Both forms have the same operations."""


class _Spread(torch.autograd.Function):
    """The product of a sparse and a dense matrix. The backward pass multiplies by the transpose, which is given too."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        ctx.pair = matrix, transpose
        return matrix @ h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        matrix, transpose = ctx.pair
        spread: Tensor = _Spread.apply(gradients[0], transpose, matrix)
        return spread, None, None


def sparse_rows(row_starts: Tensor, columns: Tensor, weights: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix by rows. Indices of 32 bits are not copied before every product."""
    _say_nothing_of_beta()
    return torch.sparse_csr_tensor(row_starts, columns, weights, shape, check_invariants=False)


@cache
def _say_nothing_of_beta() -> None:
    """Trigger torch's warning that sparse rows are in beta while warnings are off, so that it does not appear later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.tensor([]).long(), torch.tensor([]), (1, 1))
