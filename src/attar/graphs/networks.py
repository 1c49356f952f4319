"""Small networks on graphs: some convolutions of 128 channels with ReLU, a readout and a linear head.

The same forward pass takes real graphs (joined) and learned graphs (dense). The two branches of a matching loss
therefore share one network, and evaluation uses the network that was matched.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError, unknown
from attar.core.losses import Loss, LossName, as_shown
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings, words
from attar.graphs.convolutions import (
    Convolution,
    GATConvolution,
    GCNConvolution,
    GINConvolution,
    SAGEConvolution,
    reset_linear_,
)
from attar.graphs.protocols import Protocol
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
    """Settings of a network on graphs."""

    kind: Literal["gcn", "gin", "gat", "sage"] = "gcn"
    """Kind of the network's graph convolutions."""
    width: Annotated[int, Range(1)] = 128
    """Width of the network: number d of channels of every convolution."""
    depth: Annotated[int, Range(1)] = 3
    """Depth of the network: number L of convolutions."""
    pooling: Pooling = "mean"
    """Pooling of features: those of a graph's nodes become one vector."""
    norm: Literal["none", "instance", "batch"] = "none"
    """Normalisation between a convolution and its ReLU. Instance norm is over the nodes of a graph. Batch norm uses
    frozen statistics of some real graphs; it is for matching only."""

    def build(self, features: int, outputs: int, generator: torch.Generator) -> "GraphNetwork":
        """A network with random parameters."""
        network = GraphNetwork(self, features, outputs)
        redraw_(network, generator)
        return network

    def multiply_adds(self, features: int) -> int:
        """The number of multiply-adds of the convolutions for one node."""
        return self.width * (features + (self.depth - 1) * self.width)


class GraphNetwork(nn.Module):
    """A network of graph convolutions, a readout and a linear head."""

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
        """The maps X_1 ... X_L: the output of every convolution after its ReLU, for all nodes."""
        found, h = [], graphs.features
        for number, convolution in enumerate(self.convolutions):
            h = self._normed(convolution(h, graphs), graphs, number).relu_()
            found.append(h)
        return found

    def embed(self, graphs: Graphs) -> Float[Tensor, "graph channel"]:
        """The readout: the network's output before the head."""
        return graphs.pool(self.maps(graphs)[-1], self.pooling)

    def forward(
        self, graphs: Graphs, masks: Float[Tensor, "mask graph channel"] | None = None
    ) -> Float[Tensor, "*mask graph output"]:
        """The logits of every graph, or under each mask of the readout, if there are masks."""
        embedding = self.embed(graphs)
        return cast(Tensor, self.head(embedding if masks is None else masks * embedding))

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
    """Draw new random parameters, in place."""
    with torch.no_grad():
        for convolution in network.convolutions:
            cast(Convolution, convolution).reset_(generator)
        reset_linear_(network.head, generator)


def network_named(text: str) -> Architecture:
    """An architecture by its name and options, such as `gcn`, `gin:width=64,depth=2` or `gat:pooling=sum`.

    Raises:
        InputError: The name or an option is unknown.
    """
    kind, options = words(text)
    if kind not in KINDS:
        raise unknown("network", kind, KINDS)
    for name, value in options.items():
        if name in ("width", "depth") and not value.isdigit():
            raise InputError(f"{name} of {text!r} is {value!r}; it must be a whole number.")
    numbers = {name: int(value) if value.isdigit() else value for name, value in options.items()}
    return Architecture.from_json({"kind": kind, **numbers})


def labels_loss(name: LossName) -> Any:
    """A loss of labels by name; None: `classification_loss` itself."""
    return None if name == "cross-entropy" else Loss(name=name).built()


def drawn_for(protocol: Protocol, loss: Any, graphs: int, network: GraphNetwork, runtime: Runtime) -> dict[str, Tensor]:
    """What a step draws for a batch of graphs: masks of dropout, and the numbers of a loss, each by its name.

    Args:
        protocol: The protocol of training.
        loss: The loss of labels (`labels_loss`).
        graphs: Number of graphs in the batch.
        network: The network that is trained.
        runtime: The machine, and the generators.
    """
    width, outputs = network.head.in_features, network.head.out_features
    found, samples = {}, protocol.dropout_samples if protocol.dropout else 0
    if samples:
        kept = torch.rand(samples, graphs, width, generator=runtime.generator("dropout")) >= protocol.dropout
        found["masks"] = kept / (1 - protocol.dropout)
    if loss is not None:
        numbers = [loss.drawn(graphs, outputs, runtime.generator("loss")) for _ in range(max(1, samples))]
        if numbers[0] is not None:
            found["drawn"] = torch.stack(numbers) if samples else numbers[0]
    return {name: tensor.to(runtime.device) for name, tensor in found.items()}


def classification_loss(
    logits: Float[Tensor, "*mask graph output"],
    labels: Int[Tensor, " graph"],
    loss: Any = None,
    drawn: Tensor | None = None,
) -> Float[Tensor, ""]:
    """The cross-entropy; binary cross-entropy if there is one output (the molecule sets).

    Args:
        logits: The outputs of a network. Losses of several masks are averaged.
        labels: Classes.
        loss: Another loss (`labels_loss`).
        drawn: What that loss has drawn for the batch, if that was done apart.
    """
    if logits.ndim == 3:
        numbers = [None] * len(logits) if drawn is None else drawn
        each = [classification_loss(one, labels, loss, number) for one, number in zip(logits, numbers, strict=True)]
        return torch.stack(each).mean()
    if loss is not None:
        return cast(Tensor, as_shown(loss, logits, labels, drawn).mean())
    if logits.shape[-1] == 1:
        return F.binary_cross_entropy_with_logits(logits.squeeze(-1), labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)
