"""The layers of networks on graphs, written with the operations that joined and padded graphs share.

Parameters are initialised as in PyTorch Geometric's layers of the same name, but drawn from a generator.
"""

import math
from abc import abstractmethod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.graphs.structures import Graphs, Nodes

HEADS = 4
"""Number of attention heads of a GAT layer, which share its channels."""


class Convolution(nn.Module):
    """A layer that computes a new vector for every node from the vectors of the node and its neighbours."""

    @abstractmethod
    def reset_(self, generator: torch.Generator) -> None:
        """Draw new parameters, in place."""

    def forward(self, h: Nodes, graphs: Graphs) -> Nodes:
        """The new vectors of all nodes."""
        raise NotImplementedError


class GCNConvolution(Convolution):
    """H' = D^-1/2 (A + I) D^-1/2 H W + b (Kipf and Welling, ICLR 2017, arXiv:1609.02907)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, channels))
        self.bias = nn.Parameter(torch.empty(width))

    def reset_(self, generator: torch.Generator) -> None:
        """Draw Glorot's uniform weights and set the bias to zero."""
        glorot_(self.weight, generator)
        self.bias.data.zero_()

    def forward(self, h: Nodes, graphs: Graphs) -> Nodes:
        """The new vectors. A batch of real graphs has already averaged neighbours for the first layer."""
        spread = graphs.smoothed if h is graphs.features else graphs.normalised(h)
        return F.linear(spread, self.weight, self.bias)


class GINConvolution(Convolution):
    """H' = MLP(H + A H) with two layers, a ReLU between them, and ε = 0 (Xu et al., ICLR 2019, arXiv:1810.00826)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(channels, width), nn.Linear(width, width)

    def reset_(self, generator: torch.Generator) -> None:
        """Draw the parameters of both linear layers as PyTorch does."""
        reset_linear_(self.first, generator)
        reset_linear_(self.second, generator)

    def forward(self, h: Nodes, graphs: Graphs) -> Nodes:
        """The new vectors: the sum over neighbours, then the MLP."""
        return cast(Tensor, self.second(F.relu(self.first(h + graphs.sum(h)))))


class SAGEConvolution(Convolution):
    """H' = H W + mean of neighbours W' + b (Hamilton, Ying and Leskovec, NeurIPS 2017, arXiv:1706.02216)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.own, self.neighbours = nn.Linear(channels, width, bias=False), nn.Linear(channels, width)

    def reset_(self, generator: torch.Generator) -> None:
        """Draw the parameters of both linear layers as PyTorch does."""
        reset_linear_(self.own, generator)
        reset_linear_(self.neighbours, generator)

    def forward(self, h: Nodes, graphs: Graphs) -> Nodes:
        """The new vectors: the node's own vector and the mean of its neighbours, each through a linear layer."""
        return cast(Tensor, self.own(h) + self.neighbours(graphs.mean(h)))


class GATConvolution(Convolution):
    """A mean over the node and its neighbours, weighted by attention with four heads.

    Veličković et al., ICLR 2018, arXiv:1710.10903.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.heads = math.gcd(HEADS, width)
        self.weight = nn.Parameter(torch.empty(width, channels))
        self.own = nn.Parameter(torch.empty(self.heads, width // self.heads))
        self.other = nn.Parameter(torch.empty(self.heads, width // self.heads))
        self.bias = nn.Parameter(torch.empty(width))

    def reset_(self, generator: torch.Generator) -> None:
        """Draw Glorot's uniform weights and set the bias to zero."""
        for weight in (self.weight, self.own, self.other):
            glorot_(weight, generator)
        self.bias.data.zero_()

    def forward(self, h: Nodes, graphs: Graphs) -> Nodes:
        """The new vectors, by attention."""
        by_head = F.linear(h, self.weight).unflatten(-1, (self.heads, -1))
        own, other = (by_head * self.own).sum(dim=-1), (by_head * self.other).sum(dim=-1)
        return graphs.attended(by_head, own, other).flatten(-2) + self.bias


def glorot_(weight: nn.Parameter, generator: torch.Generator) -> None:
    """Draw weights uniformly between ±sqrt(6 / (inputs + outputs)), in place."""
    bound = math.sqrt(6 / sum(weight.shape))
    weight.data.uniform_(-bound, bound, generator=generator)


def reset_linear_(layer: nn.Linear, generator: torch.Generator) -> None:
    """Draw weights and bias uniformly between ±1 / sqrt(inputs), in place, which is PyTorch's initialisation."""
    bound = 1 / math.sqrt(layer.in_features)
    layer.weight.data.uniform_(-bound, bound, generator=generator)
    if layer.bias is not None:
        layer.bias.data.uniform_(-bound, bound, generator=generator)
