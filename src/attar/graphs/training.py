"""How networks learn from graphs: the field's protocol, and what is kept of each network on its way.

The field's protocol (DosCond's code): Adam at 0.001, a tenth of it from half-way on, batches of 128, 500 epochs. What
it reports is the epoch with the best validation score; the last epoch stands beside it here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from attar.core.errors import named
from attar.core.runtime import Runtime
from attar.core.settings import Hidden, Range, Settings
from attar.core.state import rebuilt
from attar.core.training import after_cuts
from attar.graphs.collection import GraphCollection
from attar.graphs.networks import Architecture, GraphNetwork
from attar.graphs.sources import GraphSource, Metric

Parameters = dict[str, Tensor]

TESTED_AT_ONCE = 1024
"""Real graphs that go through a network together."""


@dataclass(frozen=True, kw_only=True)
class Protocol(Settings):
    """How a network is trained."""

    name: Annotated[str, Hidden()] = "own"
    """What tables call it."""
    epochs: Annotated[int, Range(1)] = 500
    """Passes over the set."""
    training_lr: Annotated[float, Range(0)] = 1e-3
    """Adam's step size; a tenth of it from half of the epochs on."""
    batch: Annotated[int, Range(1)] = 128
    """Graphs of a step."""
    look_every: Annotated[int, Range(1)] = 10
    """Epochs between two looks at the validation score; the field looks after each, which costs more than training."""

    def lr_at(self, epoch: int) -> float:
        """The step size of an epoch, counted from zero; that of a single epoch is not cut."""
        return self.training_lr * after_cuts(epoch, [max(1, self.epochs // 2)])

    def looks_after(self, epochs: int) -> bool:
        """Whether the validation score is looked at after so many epochs."""
        return epochs % self.look_every == 0 or epochs == self.epochs


PROTOCOLS = {
    "field": Protocol(name="field"),
    "molhiv": Protocol(name="molhiv", epochs=100),
    "quick": Protocol(name="quick", epochs=100),
}


@dataclass(frozen=True)
class Outcome:
    """What one network came to."""

    chosen: float
    """Test score, in per cent, at the epoch with the best validation score; the first of equals."""
    last: float
    """Test score at the last epoch."""
    validation: float
    """The best validation score."""
    epoch: int
    """The chosen epoch."""


def protocol_named(name: str | Protocol) -> Protocol:
    """A protocol of the table, or the one given.

    Raises:
        InputError: An unknown name.
    """
    return named("protocol", name, PROTOCOLS)


def network_of(architecture: Architecture, source: GraphSource, runtime: Runtime) -> GraphNetwork:
    """A network whose parameters depend on the seed and on nothing else."""
    return architecture.build(source.features, source.outputs, runtime.generator("network")).to(runtime.device)


@dataclass
class Follow:
    """Keeps the parameters of each network at its best validation score."""

    network: GraphNetwork = rebuilt()
    """One of them, whose place the parameters of all take."""
    validation: Sequence[GraphCollection] = rebuilt()
    """The graphs that each is looked at on."""
    metric: Metric = rebuilt()
    runtime: Runtime = rebuilt()
    scores: list[float] = field(default_factory=list)
    """The best so far."""
    epochs: list[int] = field(default_factory=list)
    """When that was."""
    kept: list[Parameters] = field(default_factory=list)
    """The parameters then."""

    def __post_init__(self) -> None:
        several, own = len(self.validation), dict(self.network.named_parameters())
        self.scores, self.epochs = [-1.0] * several, [0] * several
        self.kept = [{name: tensor.detach().clone() for name, tensor in own.items()} for _ in range(several)]

    def look(self, parameters: Parameters, epoch: int) -> None:
        """Look at all of them after an epoch."""
        for number, graphs in enumerate(self.validation):
            own = {name: tensor[number].detach() for name, tensor in parameters.items()}
            found = self._score(own, graphs)
            if found > self.scores[number]:
                self.scores[number], self.epochs[number] = found, epoch
                self.kept[number] = {name: tensor.clone() for name, tensor in own.items()}

    def outcomes(self, parameters: Parameters, tests: Sequence[GraphCollection]) -> list[Outcome]:
        """Test the best and the last of each."""
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
    """What a network says of real graphs."""
    rows = torch.arange(len(graphs)).split(TESTED_AT_ONCE)
    return torch.cat([network(graphs.joined(part, runtime.device)).cpu() for part in rows])


def measured(logits: Float[Tensor, "graph output"], labels: Int[Tensor, " graph"], metric: Metric) -> float:
    """Accuracy or ROC-AUC, in per cent."""
    if metric == "roc-auc":
        from sklearn.metrics import roc_auc_score

        return 100 * float(roc_auc_score(labels.numpy(), logits.squeeze(1).numpy()))
    return 100 * float((logits.argmax(dim=1) == labels).float().mean())
