"""A network at several stages of one training: the weak teachers of methods that use more than the final network."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Self

from torch import Tensor

from attar.core import store
from attar.core.engine import Metrics
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings
from attar.core.training import cached
from attar.images import layout
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.sources import ImageSource
from attar.images.training import TrainedNetwork, Training, TrainNetwork


@dataclass
class Staged:
    """A training in progress, and the network's parameters after some epochs."""

    training: Training
    kept: dict[str, dict[str, Tensor]]


@dataclass
class Stages:
    """The network after each of several epochs."""

    networks: dict[int, TrainedNetwork]
    folder: Path | None = None

    def save(self, folder: Path) -> None:
        """Write each network to its own folder."""
        for epoch, network in self.networks.items():
            store.make_folder(folder / stage_name(epoch))
            network.save(folder / stage_name(epoch))

    def picture(self) -> None:
        """Networks have no picture."""


@dataclass(frozen=True, kw_only=True)
class TrainStages(Settings):
    """Train a network up to the last of some epochs, and keep a copy after each of them."""

    training: TrainNetwork = field(default_factory=TrainNetwork)
    """The network, and the protocol of its training."""
    stages: tuple[Annotated[int, Range(1)], ...] = (1,)
    """Epochs after which the network is kept, counted from one."""

    name = "train-stages"

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in depth and set size from the data."""
        return replace(self, training=self.training.resolve(source))

    @property
    def total_steps(self) -> int:
        """Steps up to the last stage."""
        return max(self.stages) * self.training.batches

    def work(self, source: ImageSource) -> float:
        """Multiply-adds of the training up to the last stage."""
        return self.training.work(source) * max(self.stages) / self.training.protocol.epochs

    def build(self, source: ImageSource, runtime: Runtime) -> Staged:
        """A network with random parameters, which stand for every stage that is not reached yet."""
        training = self.training.build(source, runtime)
        return Staged(training, {str(epoch): _parameters(training) for epoch in self.stages})

    def step(self, state: Staged, runtime: Runtime) -> Metrics:
        """One mini-batch."""
        metrics = self.training.step(state.training, runtime)
        epoch, more = divmod(state.training.done, self.training.batches)
        if not more and epoch in self.stages:
            state.kept[str(epoch)] = _parameters(state.training)
        return metrics

    def result(self, state: Staged, runtime: Runtime) -> Stages:
        """The networks so far."""
        networks = {}
        for epoch in self.stages:
            networks[epoch] = self.training.result(state.training, runtime)
            networks[epoch].network.load_state_dict(state.kept[str(epoch)])
        return Stages(networks)

    def load(self, folder: Path) -> Stages:
        """Read trained networks."""
        return Stages({epoch: TrainedNetwork.load(folder / stage_name(epoch)) for epoch in self.stages}, folder)


def stage_name(epoch: int) -> str:
    """The folder of a stage."""
    return f"epoch-{epoch:04d}"


def spaced(count: int, epochs: int) -> tuple[int, ...]:
    """Up to `count` epochs, evenly spaced, including the last one."""
    return tuple(sorted({max(1, round(epochs * number / count)) for number in range(1, count + 1)}))


def trained_stages(
    source: ImageSource, architecture: Architecture, runtime: Runtime, protocol: Protocol, stages: tuple[int, ...]
) -> Stages:
    """A network at stages of its training on all of a source: from the cache, or trained now and saved (resumable)."""
    training = TrainNetwork(architecture=architecture, protocol=protocol)
    method = TrainStages(training=training, stages=stages).resolve(source, runtime)
    found = cached(method, source, runtime, title="training weak teachers")
    for network in found.networks.values():
        layout.place(network.network, runtime)
    return found


def _parameters(training: Training) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in training.network.state_dict().items()}
