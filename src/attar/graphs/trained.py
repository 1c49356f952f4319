"""Networks trained on all real graphs: a method like any other, so that each can be killed, resumed and found again."""

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
from attar.core.state import rebuilt
from attar.core.training import cached, next_rows, set_lr
from attar.graphs.collection import GraphCollection
from attar.graphs.networks import Architecture, GraphNetwork, classification_loss
from attar.graphs.sources import GraphSource
from attar.graphs.structures import JoinedGraphs
from attar.graphs.training import Follow, Outcome, Parameters, Protocol, network_of


@dataclass
class Training:
    """A network on its way: its parameters, its optimiser, the order of the graphs, and what it was at its best."""

    network: GraphNetwork
    optimizer: torch.optim.Adam
    order: Tensor
    follow: Follow
    done: int = 0
    graphs: GraphCollection = rebuilt(default=None)
    source: Any = rebuilt(default=None)
    whole: tuple[JoinedGraphs, Tensor] | None = rebuilt(default=None)
    """All graphs and their labels, where they are one batch."""


@dataclass(frozen=True, kw_only=True)
class TrainGraphNetwork(Settings):
    """Train a network on graphs without padding, a mini-batch a step."""

    architecture: Architecture = field(default_factory=Architecture)
    """What is trained."""
    protocol: Protocol = field(default_factory=Protocol)
    """How."""
    graphs: int = 0
    """How many graphs there are to train on; filled in from the data."""

    name = "train-graph-network"

    def resolve(self, source: GraphSource, runtime: Runtime | None = None) -> Self:
        """Fill in the size of the set."""
        return replace(self, graphs=len(source.train))

    @property
    def batches(self) -> int:
        """Steps per epoch."""
        return math.ceil(self.graphs / self.protocol.batch)

    @property
    def total_steps(self) -> int:
        """Steps in all."""
        return self.protocol.epochs * self.batches

    def build(self, source: GraphSource, runtime: Runtime) -> Training:
        """A network with fresh parameters, for all training graphs."""
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
        )

    def step(self, state: Training, runtime: Runtime) -> Metrics:
        """One mini-batch; after some epochs a look at the validation score."""
        epoch, number = divmod(state.done, self.batches)
        if number == 0:
            set_lr(state.optimizer, self.protocol.lr_at(epoch))
        rows = next_rows(state.order, state.done, self.protocol.batch, runtime.generator("order"))
        batch, labels = state.whole or _batch(state.graphs, rows, runtime)
        loss = classification_loss(state.network(batch), labels)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.done += 1
        if number + 1 == self.batches and self.protocol.looks_after(epoch + 1):
            state.follow.look(_as_stack(state.network), epoch + 1)
        return {"loss": loss.detach()}

    def result(self, state: Training, runtime: Runtime) -> "Trained":
        """The network as it is now, which is tested after the last step alone."""
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
    """A network trained on graphs, and what it came to."""

    network: GraphNetwork
    """At the last epoch."""
    outcome: Outcome
    method: TrainGraphNetwork
    features: int
    """Numbers of a node."""
    outputs: int
    """Logits of a graph."""

    def save(self, folder: Path) -> str:
        """Write it to a folder; return its digest."""
        facts = {"settings": self.method.to_json(), "features": self.features, "outputs": self.outputs}
        plain = {**facts, "outcome": vars(self.outcome)}
        return store.write_tensors(folder / "network.safetensors", self.network.state_dict(), plain)

    def picture(self) -> None:
        """A network has none."""

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
    """A network trained on all training graphs: from the cache, or trained now and kept there (resumable).

    Args:
        source: The graphs.
        architecture: The network.
        protocol: How it is trained.
        runtime: The machine.
        seed: Of parameters and order.
    """
    method = TrainGraphNetwork(architecture=architecture, protocol=protocol).resolve(source)
    found = cached(method, source, runtime.with_seed(seed), title="training on all graphs")
    found.network.to(runtime.device)
    return found


def _as_stack(network: GraphNetwork) -> Parameters:
    return {name: parameter.unsqueeze(0) for name, parameter in network.named_parameters()}


def _batch(graphs: GraphCollection, rows: Tensor, runtime: Runtime) -> tuple[JoinedGraphs, Tensor]:
    return graphs.joined(rows, runtime.device), graphs.labels[rows].to(runtime.device)
