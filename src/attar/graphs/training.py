"""The training of networks on graphs: the field's protocol, and the best parameters of each network.

The field's protocol (DosCond's code): Adam at 0.001, a tenth of it from half-way on, batches of 128, 500 epochs. It
reports the epoch with the best validation score. attar also reports the last epoch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from attar.core.runtime import Runtime
from attar.core.state import rebuilt
from attar.graphs.collection import GraphCollection
from attar.graphs.networks import Architecture, GraphNetwork
from attar.graphs.sources import GraphSource, Metric

Parameters = dict[str, Tensor]

TESTED_AT_ONCE = 1024
"""Number of real graphs that go through a network together."""


@dataclass(frozen=True)
class Outcome:
    """The scores of one trained network."""

    chosen: float
    """Test score, in per cent, at the first epoch with the best validation score."""
    last: float
    """Test score at the last epoch, in per cent."""
    validation: float
    """Best validation score, in per cent."""
    epoch: int
    """Epoch of the best validation score."""


def network_of(architecture: Architecture, source: GraphSource, runtime: Runtime) -> GraphNetwork:
    """A network whose parameters depend only on the seed."""
    return architecture.build(source.features, source.outputs, runtime.generator("network")).to(runtime.device)


@dataclass
class Follow:
    """Keeps the parameters of each network at its best validation score."""

    network: GraphNetwork = rebuilt()
    """A network of the architecture, which is called with the parameters of each network."""
    validation: Sequence[GraphCollection] = rebuilt()
    """Validation graphs of each network."""
    metric: Metric = rebuilt()
    runtime: Runtime = rebuilt()
    scores: list[float] = field(default_factory=list)
    """Best validation score of each network so far."""
    epochs: list[int] = field(default_factory=list)
    """Epoch of the best score of each network."""
    kept: list[Parameters] = field(default_factory=list)
    """Parameters of each network at that epoch."""

    def __post_init__(self) -> None:
        several, own = len(self.validation), dict(self.network.named_parameters())
        self.scores, self.epochs = [-1.0] * several, [0] * several
        self.kept = [{name: tensor.detach().clone() for name, tensor in own.items()} for _ in range(several)]

    def look(self, parameters: Parameters, epoch: int) -> None:
        """Validate all networks after an epoch, and keep the parameters of those that improved."""
        for number, graphs in enumerate(self.validation):
            own = {name: tensor[number].detach() for name, tensor in parameters.items()}
            found = self._score(own, graphs)
            if found > self.scores[number]:
                self.scores[number], self.epochs[number] = found, epoch
                self.kept[number] = {name: tensor.clone() for name, tensor in own.items()}

    def outcomes(self, parameters: Parameters, tests: Sequence[GraphCollection]) -> list[Outcome]:
        """Test the best and the last parameters of each network."""
        found = []
        for number, graphs in enumerate(tests):
            own = {name: tensor[number].detach() for name, tensor in parameters.items()}
            chosen, last = self._score(self.kept[number], graphs), self._score(own, graphs)
            found.append(Outcome(chosen, last, self.scores[number], self.epochs[number]))
        return found

    def _score(self, parameters: Parameters, graphs: GraphCollection) -> float:
        logits = answers(lambda batch: functional_call(self.network, parameters, (batch,)), graphs, self.runtime)
        return measured(logits, graphs.labels, self.metric)


@torch.no_grad()
def answers(network: Callable[..., Tensor], graphs: GraphCollection, runtime: Runtime) -> Float[Tensor, "graph output"]:
    """The outputs of a network on real graphs."""
    rows = torch.arange(len(graphs)).split(TESTED_AT_ONCE)
    return torch.cat([network(graphs.joined(part, runtime.device)).cpu() for part in rows])


def measured(logits: Float[Tensor, "graph output"], labels: Int[Tensor, " graph"], metric: Metric) -> float:
    """The accuracy or ROC-AUC of logits, in per cent."""
    if metric == "roc-auc":
        from sklearn.metrics import roc_auc_score

        return 100 * float(roc_auc_score(labels.numpy(), logits.squeeze(1).numpy()))
    return 100 * float((logits.argmax(dim=1) == labels).float().mean())
