"""DosCond: match loss gradients of random networks, one step each. Each edge is learned as the logit of a probability.

It is the usual baseline for condensing sets for graph classification. With an inner loop (`outer`, `inner`) it is DC on
graphs; with a continuous adjacency it is the authors' DCG. It takes a gradient of a gradient, so a step costs more than
a step of GSTAM.
Jin, Tang, Jiang, Li, Zhang, Tang and Yin, Condensing Graphs via One-Step Gradient Matching, KDD 2022, arXiv:2206.07746.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.presets import published
from attar.core.processes import ALONE, Processes
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.graphs.matching import EPSILON, Distance, GraphMatching, RealBatch, of_groups, row_cosines
from attar.graphs.networks import GraphNetwork, classification_loss
from attar.graphs.structures import Graphs, PaddedGraphs
from attar.graphs.synthetic import Learned

Gradients = list[Tensor]
"""A gradient for each parameter, in the parameter's shape."""

INNER_LR, INNER_BATCH = 0.005, 128
"""Learning rate and batch size of Adam for training the network between two matches."""


@dataclass(frozen=True, kw_only=True)
class DosCond(GraphMatching):
    """Match gradients at random networks (Jin et al., KDD 2022, arXiv:2206.07746).

    L(S) = E_θ Σ_c D(∇_θ ℓ(S_c), ∇_θ ℓ(T_c)) + β ReLU(mean σ(Ω) - s0). The paper describes a distance by layers. The
    released scripts use the relative squared error of the whole gradient. It is not known which of them gave the
    published table.
    """

    outer: Annotated[int, Range(1)] = 1
    """Number of gradient matches with one network."""
    inner: Annotated[int, Range(0)] = 0
    """Number of epochs for which the network is trained on the synthetic graphs between two matches."""
    adjacency: Literal["relaxed", "continuous"] = "relaxed"
    """Form in which edges are learned. relaxed: logits from which edges are sampled. continuous: the weights
    themselves, kept in [0, 1] (DCG)."""
    head_bias: bool = True
    """Whether the gradient of the head's bias is matched. For graphs of one class it is much larger than the others."""

    name = "doscond"

    @property
    def continuous(self) -> bool:
        """Whether the adjacency itself is learned instead of logits."""
        return self.adjacency == "continuous"

    def match(self, state: Learned, runtime: Runtime) -> dict[str, Tensor]:
        """Match and update `outer` times, with training in between."""
        state.network.requires_grad_(True)
        total: dict[str, Tensor] = {}
        for time in range(self.outer):
            batch = self.draw_real(state, runtime)
            graphs = self.sample(state, runtime)
            found = self.update(state, graphs, self.compare(state, batch, graphs, runtime.processes), runtime)
            total = {name: total.get(name, 0) + value.detach() / self.outer for name, value in found.items()}
            if self.inner and time < self.outer - 1:
                train_between(state.network, self.sample(state, runtime), state.labels, self.inner, runtime)
        return total

    def compare(
        self, state: Learned, batch: RealBatch, graphs: PaddedGraphs, processes: Processes = ALONE
    ) -> Float[Tensor, ""]:
        """The distance D, summed over the classes of this process. One class at a time goes through the network."""
        network, total, counts = state.network, state.features.new_zeros(()), self.groups(state.counts)
        matched = [p for name, p in network.named_parameters() if self.head_bias or name != "head.bias"]
        targets = real_gradients(network, matched, batch)
        labels = state.labels.to(state.features.device).split(counts)
        for group in processes.share(len(counts)):
            own = of_groups(graphs, counts, [group])
            given = gradients(network, matched, own, labels[group], differentiable=True)
            total = total + gradient_distance(given, targets[group], self.distance)
        return total

    @classmethod
    def paper(cls, data: str, *, gpc: int) -> Self:
        """The settings of one line of the released script (`attar condense doscond --paper` lists them).

        Args:
            data: MUTAG, NCI1, DD, CIFAR10 (superpixels), ogbg-molhiv, ogbg-molbace or ogbg-molbbbp.
            gpc: Number of graphs per class, as in the tables. The script has lines for one only, which all take.

        Raises:
            InputError: The tables do not have the cell.
        """
        return published(cls, data, gpc)


def gradients(
    network: GraphNetwork,
    parameters: Sequence[Tensor],
    graphs: Graphs,
    labels: Int[Tensor, " graph"],
    *,
    differentiable: bool = False,
) -> Gradients:
    """The gradient ∇_θ ℓ of a batch. It can itself be differentiated if `differentiable` is true."""
    loss = classification_loss(network(graphs), labels)
    return list(torch.autograd.grad(loss, parameters, create_graph=differentiable))


def real_gradients(network: GraphNetwork, parameters: Sequence[Tensor], batch: RealBatch) -> list[Gradients]:
    """The gradient of the mean loss of each group of real graphs, to which each process adds its part."""
    found = []
    for (graphs, labels), whole in zip(batch.parts, batch.whole, strict=True):
        own = gradients(network, parameters, graphs, labels)
        found.append([batch.processes.sum_(len(labels) / whole * one.contiguous()) for one in own])
    return found


def gradient_distance(given: Gradients, target: Gradients, distance: Distance = "mse") -> Float[Tensor, ""]:
    """The distance D(g, t) of two gradients.

    `mse` is ‖g - t‖² / ‖t‖² and `cos` is 1 - cosine, both of the whole gradient. `ours` is the released code's
    Σ (1 - cosine) over rows (see `row_cosines`). A row holds the weights of one output of a layer. Biases have no rows
    and do not count with `ours`.
    """
    if distance == "ours":
        pairs = [(g.flatten(1), t.flatten(1)) for g, t in zip(given, target, strict=True) if g.ndim > 1]
        return torch.stack([row_cosines(g, t) for g, t in pairs]).sum()
    whole, wanted = (torch.cat([part.flatten() for part in parts]) for parts in (given, target))
    if distance == "cos":
        return 1 - torch.cosine_similarity(whole, wanted, dim=0, eps=EPSILON)
    return (whole - wanted).square().sum() / wanted.square().sum().clamp_min(EPSILON)


def train_between(
    network: GraphNetwork, graphs: PaddedGraphs, labels: Int[Tensor, " graph"], epochs: int, runtime: Runtime
) -> None:
    """Train a network in place by Adam on the present synthetic graphs."""
    optimizer = torch.optim.Adam(network.parameters(), INNER_LR)
    features, adjacency = graphs.features.detach(), graphs.adjacency.detach()
    labels, generator = labels.to(features.device), runtime.generator("inner")
    for _ in range(epochs):
        for rows in torch.randperm(len(labels), generator=generator).split(INNER_BATCH):
            loss = classification_loss(network(PaddedGraphs(features[rows], adjacency[rows])), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
