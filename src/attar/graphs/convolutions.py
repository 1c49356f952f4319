"""The layers that networks on graphs are made of, written with the operations that joined and padded graphs share.

Parameters start as those of PyTorch Geometric's layers of the same name do, but from a generator.
"""

import math
from abc import abstractmethod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.graphs.structures import Graphs, Nodes

HEADS = 4
"""Attention heads of a GAT layer, which share its channels."""


class Convolution(nn.Module):
    """One layer: a new vector for every node, from its own and its neighbours'."""

    @abstractmethod
    def reset_(self, generator: torch.Generator) -> None:
        """Draw the parameters anew, in place."""

    def forward(self, h: Nodes, graphs: Graphs) -> Nodes:
        """New vectors."""
        raise NotImplementedError


class GCNConvolution(Convolution):
    """H' = D^-1/2 (A + I) D^-1/2 H W + b (Kipf and Welling, ICLR 2017, arXiv:1609.02907)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, channels))
        self.bias = nn.Parameter(torch.empty(width))

    def reset_(self, generator: torch.Generator) -> None:
        """Glorot's uniform weights, and no bias."""
        glorot_(self.weight, generator)
        self.bias.data.zero_()

    def forward(self, h: Nodes, graphs: Graphs) -> Nodes:
        """Neighbours first, which a batch of real graphs has already summed for the first layer."""
        spread = graphs.smoothed if h is graphs.features else graphs.normalised(h)
        return F.linear(spread, self.weight, self.bias)


class GINConvolution(Convolution):
    """H' = MLP(H + A H), two layers and a ReLU between them (Xu et al., ICLR 2019, arXiv:1810.00826), ε = 0."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(channels, width), nn.Linear(width, width)

    def reset_(self, generator: torch.Generator) -> None:
        """As linear layers are."""
        reset_linear_(self.first, generator)
        reset_linear_(self.second, generator)

    def forward(self, h: Nodes, graphs: Graphs) -> Nodes:
        """Sum, then look."""
        return cast(Tensor, self.second(F.relu(self.first(h + graphs.sum(h)))))


class SAGEConvolution(Convolution):
    """H' = H W + mean of neighbours W' + b (Hamilton, Ying and Leskovec, NeurIPS 2017, arXiv:1706.02216)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.own, self.neighbours = nn.Linear(channels, width, bias=False), nn.Linear(channels, width)

    def reset_(self, generator: torch.Generator) -> None:
        """As linear layers are."""
        reset_linear_(self.own, generator)
        reset_linear_(self.neighbours, generator)

    def forward(self, h: Nodes, graphs: Graphs) -> Nodes:
        """Own and mean."""
        return cast(Tensor, self.own(h) + self.neighbours(graphs.mean(h)))


class GATConvolution(Convolution):
    """Neighbours and the node itself, weighted by attention of four heads (Veličković et al., ICLR 2018,
    arXiv:1710.10903).
    """  # noqa: D205

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.heads = math.gcd(HEADS, width)
        self.weight = nn.Parameter(torch.empty(width, channels))
        self.own = nn.Parameter(torch.empty(self.heads, width // self.heads))
        self.other = nn.Parameter(torch.empty(self.heads, width // self.heads))
        self.bias = nn.Parameter(torch.empty(width))

    def reset_(self, generator: torch.Generator) -> None:
        """Glorot's uniform weights, and no bias."""
        for weight in (self.weight, self.own, self.other):
            glorot_(weight, generator)
        self.bias.data.zero_()

    def forward(self, h: Nodes, graphs: Graphs) -> Nodes:
        """Attend."""
        by_head = F.linear(h, self.weight).unflatten(-1, (self.heads, -1))
        own, other = (by_head * self.own).sum(dim=-1), (by_head * self.other).sum(dim=-1)
        return graphs.attended(by_head, own, other).flatten(-2) + self.bias


def glorot_(weight: nn.Parameter, generator: torch.Generator) -> None:
    """Uniform between ±sqrt(6 / (inputs + outputs))."""
    bound = math.sqrt(6 / sum(weight.shape))
    weight.data.uniform_(-bound, bound, generator=generator)


def reset_linear_(layer: nn.Linear, generator: torch.Generator) -> None:
    """Uniform between ±1 / sqrt(inputs), bias included: torch's own start."""
    bound = 1 / math.sqrt(layer.in_features)
    layer.weight.data.uniform_(-bound, bound, generator=generator)
    if layer.bias is not None:
        layer.bias.data.uniform_(-bound, bound, generator=generator)
