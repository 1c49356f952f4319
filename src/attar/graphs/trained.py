"""Networks trained on all real graphs. Training is a method like any other, so it can be killed, resumed and cached."""

import copy
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from attar.core import store
from attar.core.engine import Metrics
from attar.core.runtime import Runtime
from attar.core.settings import Settings
from attar.core.sharing import Share
from attar.core.state import rebuilt
from attar.core.training import cached, next_rows, set_lr
from attar.graphs.collection import GraphCollection
from attar.graphs.networks import Architecture, GraphNetwork, classification_loss, drawn_for, labels_loss
from attar.graphs.protocols import Protocol
from attar.graphs.sources import GraphSource
from attar.graphs.structures import JoinedGraphs
from attar.graphs.training import Follow, Outcome, Parameters, network_of


@dataclass
class Training:
    """The state of training: the network, its optimiser, the order of the graphs, and the best parameters so far."""

    network: GraphNetwork
    optimizer: torch.optim.Adam
    order: Tensor
    follow: Follow
    done: int = 0
    graphs: GraphCollection = rebuilt(default=None)
    source: Any = rebuilt(default=None)
    whole: tuple[JoinedGraphs, Tensor] | None = rebuilt(default=None)
    """The graphs of this process and the labels of all, if all fit into one batch."""
    loss: Any = rebuilt(default=None)
    """The loss of labels, if it is not the cross-entropy."""


@dataclass(frozen=True, kw_only=True)
class TrainGraphNetwork(Settings):
    """Train a network on graphs without padding, one mini-batch per step."""

    architecture: Architecture = field(default_factory=Architecture)
    """Architecture of the network."""
    protocol: Protocol = field(default_factory=Protocol)
    """Settings of the training."""
    graphs: int = 0
    """Number of training graphs. It is counted in the data, not given."""

    name = "train-graph-network"
    shares = True

    def resolve(self, source: GraphSource, runtime: Runtime | None = None) -> Self:
        """Count the training graphs."""
        return replace(self, graphs=len(source.train))

    @property
    def batches(self) -> int:
        """The number of steps per epoch."""
        return math.ceil(self.graphs / self.protocol.batch)

    @property
    def total_steps(self) -> int:
        """The number of steps."""
        return self.protocol.epochs * self.batches

    def build(self, source: GraphSource, runtime: Runtime) -> Training:
        """The state before the first step, for all training graphs."""
        return self.build_on(source.train, source, runtime)

    def build_on(self, graphs: GraphCollection, source: GraphSource, runtime: Runtime) -> Training:
        """The same for other graphs, of which the source only validates and tests."""
        network = network_of(self.architecture, source, runtime)
        order = torch.arange(self.graphs)
        return Training(
            network=network,
            optimizer=torch.optim.Adam(network.parameters(), self.protocol.training_lr),
            order=order,
            follow=Follow(network, [source.validation], source.metric, runtime),
            graphs=graphs,
            source=source,
            whole=_batch(graphs, order, runtime) if self.batches == 1 else None,
            loss=labels_loss(self.protocol.loss),
        )

    def step(self, state: Training, runtime: Runtime) -> Metrics:
        """One mini-batch; after some epochs a look at the validation score."""
        epoch, number = divmod(state.done, self.batches)
        if number == 0:
            set_lr(state.optimizer, self.protocol.lr_at(epoch))
        rows = next_rows(state.order, state.done, self.protocol.batch, runtime.generator("order"))
        batch, labels = state.whole or _batch(state.graphs, rows, runtime)
        drawn = drawn_for(self.protocol, state.loss, len(labels), state.network, runtime)
        share = Share(len(labels), runtime.processes)
        logits = _logits(state.network, batch, drawn.get("masks"), share)
        loss = classification_loss(logits, labels, state.loss, drawn.get("drawn"))
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        share.add_gradients(state.network.parameters(), joined=True)
        state.optimizer.step()
        state.done += 1
        if number + 1 == self.batches and self.protocol.looks_after(epoch + 1):
            state.follow.look(_as_stack(state.network), epoch + 1)
        return {"loss": loss.detach()}

    def result(self, state: Training, runtime: Runtime) -> "Trained":
        """The network in its present state. It is tested only after the last step."""
        found = Outcome(math.nan, math.nan, state.follow.scores[0], state.follow.epochs[0])
        if state.done == self.total_steps:
            (found,) = state.follow.outcomes(_as_stack(state.network), [state.source.test])
        source = state.source
        return Trained(copy.deepcopy(state.network), found, self, source.features, source.outputs)

    def load(self, folder: Path) -> "Trained":
        """Read a trained network."""
        return Trained.load(folder)


@dataclass(frozen=True)
class Trained:
    """A network trained on graphs, and its scores."""

    network: GraphNetwork
    """Network at the last epoch."""
    outcome: Outcome
    method: TrainGraphNetwork
    features: int
    """Number of features of a node."""
    outputs: int
    """Number of logits of a graph."""

    def save(self, folder: Path) -> str:
        """Write the network to a folder and return its digest."""
        facts = {"settings": self.method.to_json(), "features": self.features, "outputs": self.outputs}
        plain = {**facts, "outcome": vars(self.outcome)}
        return store.write_tensors(folder / "network.safetensors", self.network.state_dict(), plain)

    def picture(self) -> None:
        """None: a network has no picture."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The file is missing or damaged.
        """
        tensors, plain = store.read_tensors(folder / "network.safetensors")
        method, sizes = TrainGraphNetwork.from_json(plain["settings"]), (plain["features"], plain["outputs"])
        network = method.architecture.build(*sizes, torch.Generator())
        network.load_state_dict(tensors)
        return cls(network, Outcome(**plain["outcome"]), method, *sizes)


def trained(
    source: GraphSource, architecture: Architecture, protocol: Protocol, runtime: Runtime, *, seed: int = 0
) -> Trained:
    """A network trained on all training graphs, from the cache; it is trained if it is not there, and can be resumed.

    Several processes train it together, unless the machine is that of one alone.

    Args:
        source: The graphs.
        architecture: The architecture of the network.
        protocol: The settings of the training.
        runtime: The machine.
        seed: Seed of the parameters and of the order of graphs.
    """
    method = TrainGraphNetwork(architecture=architecture, protocol=protocol).resolve(source)
    found = cached(method, source, runtime.with_seed(seed), title="training on all graphs")
    found.network.to(runtime.device)
    return found


def _as_stack(network: GraphNetwork) -> Parameters:
    return {name: parameter.unsqueeze(0) for name, parameter in network.named_parameters()}


def _batch(graphs: GraphCollection, rows: Tensor, runtime: Runtime) -> tuple[JoinedGraphs, Tensor]:
    """The graphs of a batch that this process works on, and the labels of the whole batch."""
    mine = Share(len(rows), runtime.processes).of(rows)
    return graphs.joined(mine, runtime.device), graphs.labels[rows].to(runtime.device)


def _logits(network: GraphNetwork, batch: JoinedGraphs, masks: Tensor | None, share: Share) -> Tensor:
    """The outputs for the whole batch, to which each process adds those for its graphs; under each mask, if any."""
    if masks is None:
        return share.joined(network(batch))[0]
    found = network(batch, masks if share.alone else masks[:, share.taken])
    return share.joined(found.transpose(0, 1))[0].transpose(0, 1)
