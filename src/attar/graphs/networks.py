"""Small networks on graphs: some convolutions of 128 channels with ReLU, a readout and a linear head.

The same forward pass takes real graphs, joined, and learned ones, dense; so the two branches of a matching loss share
one network, and what is evaluated is what was matched.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError, unknown
from attar.core.settings import Range, Settings, words
from attar.graphs.convolutions import (
    Convolution,
    GATConvolution,
    GCNConvolution,
    GINConvolution,
    SAGEConvolution,
    reset_linear_,
)
from attar.graphs.structures import Graphs, Nodes, Pooling

KINDS: dict[str, type[Convolution]] = {
    "gcn": GCNConvolution,
    "gin": GINConvolution,
    "gat": GATConvolution,
    "sage": SAGEConvolution,
}
EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class Architecture(Settings):
    """A network on graphs by its numbers."""

    kind: Literal["gcn", "gin", "gat", "sage"] = "gcn"
    """Convolutions of the network."""
    width: Annotated[int, Range(1)] = 128
    """Width of the network: channels d of every convolution."""
    depth: Annotated[int, Range(1)] = 3
    """Depth of the network: its convolutions L."""
    pooling: Pooling = "mean"
    """How features are pooled: those of a graph's nodes into one vector."""
    norm: Literal["none", "instance", "batch"] = "none"
    """Normalisation between a convolution and its ReLU: instance norm is over the nodes of a graph; batch norm, for
    matching only, uses the frozen statistics of some real graphs."""

    def build(self, features: int, outputs: int, generator: torch.Generator) -> "GraphNetwork":
        """A network with random parameters."""
        network = GraphNetwork(self, features, outputs)
        redraw_(network, generator)
        return network

    def multiply_adds(self, features: int) -> int:
        """Of the convolutions, for one node."""
        return self.width * (features + (self.depth - 1) * self.width)


class GraphNetwork(nn.Module):
    """Convolutions, a readout, a linear head."""

    def __init__(self, architecture: Architecture, features: int, outputs: int) -> None:
        super().__init__()
        width, kind = architecture.width, KINDS[architecture.kind]
        widths = [features] + [width] * architecture.depth
        self.convolutions = nn.ModuleList(kind(*pair) for pair in pairwise(widths))
        self.head = nn.Linear(width, outputs)
        self.pooling: Pooling = architecture.pooling
        self.norm = architecture.norm
        self.register_buffer("means", torch.zeros(architecture.depth, width), persistent=False)
        self.register_buffer("variances", torch.ones(architecture.depth, width), persistent=False)

    def maps(self, graphs: Graphs) -> list[Nodes]:
        """X_1 ... X_L: what every convolution gives after its ReLU, for all nodes."""
        found, h = [], graphs.features
        for number, convolution in enumerate(self.convolutions):
            h = self._normed(convolution(h, graphs), graphs, number).relu_()
            found.append(h)
        return found

    def embed(self, graphs: Graphs) -> Float[Tensor, "graph channel"]:
        """The readout, before the head."""
        return graphs.pool(self.maps(graphs)[-1], self.pooling)

    def forward(self, graphs: Graphs) -> Float[Tensor, "graph output"]:
        """Logits."""
        return cast(Tensor, self.head(self.embed(graphs)))

    @torch.no_grad()
    def freeze_statistics(self, graphs: Graphs) -> None:
        """Set batch norm's statistics, layer by layer, to those of a batch of real graphs."""
        h = graphs.features
        means, variances = cast(Tensor, self.means), cast(Tensor, self.variances)
        for number, convolution in enumerate(self.convolutions):
            h = convolution(h, graphs)
            nodes = h.flatten(0, -2)
            means[number], variances[number] = nodes.mean(dim=0), nodes.var(dim=0, correction=0)
            h = self._normed(h, graphs, number).relu_()

    def _normed(self, h: Nodes, graphs: Graphs, number: int) -> Nodes:
        if self.norm == "instance":
            return graphs.centred(h, EPSILON)
        if self.norm == "batch":
            return (h - cast(Tensor, self.means)[number]) * (cast(Tensor, self.variances)[number] + EPSILON).rsqrt()
        return h


def redraw_(network: GraphNetwork, generator: torch.Generator) -> None:
    """Random parameters anew, in place."""
    with torch.no_grad():
        for convolution in network.convolutions:
            cast(Convolution, convolution).reset_(generator)
        reset_linear_(network.head, generator)


def network_named(text: str) -> Architecture:
    """An architecture by its name and options: `gcn`, `gin:width=64,depth=2`, `gat:pooling=sum`.

    Raises:
        InputError: An unknown name or option.
    """
    kind, options = words(text)
    if kind not in KINDS:
        raise unknown("network", kind, KINDS)
    for name, value in options.items():
        if name in ("width", "depth") and not value.isdigit():
            raise InputError(f"{name} of {text!r} is {value!r}; it must be a whole number.")
    numbers = {name: int(value) if value.isdigit() else value for name, value in options.items()}
    return Architecture.from_json({"kind": kind, **numbers})


def classification_loss(logits: Float[Tensor, "graph output"], labels: Int[Tensor, " graph"]) -> Float[Tensor, ""]:
    """Cross-entropy, or that of a coin where there is one output (the molecule sets)."""
    if logits.shape[-1] == 1:
        return F.binary_cross_entropy_with_logits(logits.squeeze(-1), labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)
