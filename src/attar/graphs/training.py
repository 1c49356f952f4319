"""How networks learn from a set of graphs: many at once from condensed sets, one at a time from all the real graphs.

The field's protocol (DosCond's code): Adam at 0.001, a tenth of it from half-way on, batches of 128, 500 epochs. What
it reports is the epoch with the best validation score; the last epoch stands beside it here.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from attar.core import store
from attar.core.engine import Metrics
from attar.core.errors import InputError, unknown
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings
from attar.core.state import rebuilt
from attar.core.training import after_cuts, cached, next_rows, set_lr
from attar.graphs.artefact import CondensedGraphs
from attar.graphs.collection import GraphCollection
from attar.graphs.networks import Architecture, GraphNetwork, classification_loss
from attar.graphs.sources import GraphSource, Metric
from attar.graphs.structures import JoinedGraphs, PaddedGraphs

Parameters = dict[str, Tensor]

AT_ONCE = 16
"""Networks that are trained together; more would not go quicker on a CPU."""
WASTE, SIZE_STEP = 2, 16
"""A set that padding would more than double is trained on without padding, by itself; the others are put together with
those whose largest graph falls into the same step of sizes."""
TESTED_AT_ONCE = 1024
"""Real graphs that go through a network together."""


@dataclass(frozen=True, kw_only=True)
class Protocol(Settings):
    """How a network is trained."""

    name: str = "own"
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
    if isinstance(name, Protocol):
        return name
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def train_on_condensed(
    sets: Sequence[tuple[CondensedGraphs, GraphSource]],
    architecture: Architecture,
    protocol: Protocol,
    seeds: Sequence[int],
    runtime: Runtime,
    *,
    watch: Callable[[int], None] = lambda taken: None,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """A network on each of some condensed sets, with the source that tests it; sets of one shape are trained together.

    Args:
        sets: Condensed sets and their sources.
        architecture: The network, without batch norm.
        protocol: How it is trained.
        seeds: One for each set: of its network's parameters and the order of its graphs.
        runtime: The machine.
        watch: Told how many epochs have been taken, by all networks together.
        tell: Told what a network has come to, as soon as it is tested.

    Raises:
        InputError: Batch norm.
    """
    if architecture.norm == "batch":
        raise InputError("batch norm is for matching; evaluate with norm=none or norm=instance.")
    taken = 0
    outcomes: dict[int, Outcome] = {}

    def on(epochs: int) -> None:
        nonlocal taken
        taken += epochs
        watch(taken)

    together: dict[tuple[int, ...], list[int]] = {}
    for number, (small, source) in enumerate(sets):
        if len(small) * int(small.sizes.max()) > WASTE * int(small.sizes.sum()):
            turn = runtime.with_seed(seeds[number])
            outcomes[number] = _train_alone(small.graphs, source, architecture, protocol, turn, on=on)
            tell(outcomes[number])
        else:
            shape = (len(small), source.features, source.outputs, int(small.sizes.max()) // SIZE_STEP)
            together.setdefault(shape, []).append(number)
    for numbers in together.values():
        for start in range(0, len(numbers), AT_ONCE):
            part = numbers[start : start + AT_ONCE]
            several = _train_together(
                [sets[n] for n in part], architecture, protocol, [seeds[n] for n in part], runtime, on=on
            )
            for number, outcome in zip(part, several, strict=True):
                outcomes[number] = outcome
                tell(outcome)
    return [outcomes[number] for number in range(len(sets))]


def _train_together(
    sets: Sequence[tuple[CondensedGraphs, GraphSource]],
    architecture: Architecture,
    protocol: Protocol,
    seeds: Sequence[int],
    runtime: Runtime,
    *,
    on: Callable[[int], None],
) -> list[Outcome]:
    """Networks of one shape, an epoch of all at a time; `on` is told how many epochs that were."""
    smalls, sources = [small for small, _ in sets], [source for _, source in sets]
    turns = [runtime.with_seed(seed) for seed in seeds]
    networks = [_network(architecture, source, turn) for source, turn in zip(sources, turns, strict=True)]
    generators = [turn.generator("order") for turn in turns]
    inputs = [tensor.to(runtime.device) for tensor in _stacked(smalls)]
    parameters, _ = stack_module_state(networks)
    network = copy.deepcopy(networks[0])

    def loss(own: Parameters, x: Tensor, adjacency: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        logits = functional_call(network, own, (PaddedGraphs(x, adjacency, mask),))
        return classification_loss(logits, labels)

    follow = _Follow(network, [source.validation for source in sources], sources[0].metric, runtime)
    optimizer = torch.optim.Adam(parameters.values(), protocol.training_lr)
    for epoch in range(protocol.epochs):
        set_lr(optimizer, protocol.lr_at(epoch))
        for batch in _batches(inputs, protocol.batch, generators):
            optimizer.zero_grad(set_to_none=True)
            vmap(loss)(parameters, *batch).sum().backward()
            optimizer.step()
        if protocol.looks_after(epoch + 1):
            follow.look(parameters, epoch + 1)
        on(len(sets))
    return follow.outcomes(parameters, [source.test for source in sources])


def _stacked(smalls: Sequence[CondensedGraphs]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, adjacency, mask and labels of sets with as many graphs, `[set, graph, ...]`, padded to one size."""
    nodes = max(small.feat.shape[1] for small in smalls)
    padded = [small.graphs.padded(nodes) for small in smalls]
    masks = [torch.arange(nodes) < small.sizes.unsqueeze(1) for small in smalls]
    return (
        torch.stack([graphs.features for graphs in padded]),
        torch.stack([graphs.adjacency for graphs in padded]),
        torch.stack(masks),
        torch.stack([small.labels for small in smalls]),
    )


def _batches(inputs: Sequence[Tensor], size: int, generators: Sequence[torch.Generator]) -> Iterator[Sequence[Tensor]]:
    """Every set's graphs once: all in one batch where they fit, else in an order of its own."""
    sets, graphs = inputs[0].shape[:2]
    if graphs <= size:
        yield inputs
        return
    order = torch.stack([torch.randperm(graphs, generator=generator) for generator in generators])
    which = torch.arange(sets).unsqueeze(1)
    for rows in order.split(size, dim=1):
        yield [tensor[which.to(tensor.device), rows.to(tensor.device)] for tensor in inputs]


@dataclass
class _Follow:
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


@dataclass
class Training:
    """A network on its way: its parameters, its optimiser, the order of the graphs, and what it was at its best."""

    network: GraphNetwork
    optimizer: torch.optim.Adam
    order: Tensor
    follow: _Follow
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
        network = _network(self.architecture, source, runtime)
        order = torch.arange(self.graphs)
        return Training(
            network=network,
            optimizer=torch.optim.Adam(network.parameters(), self.protocol.training_lr),
            order=order,
            follow=_Follow(network, [source.validation], source.metric, runtime),
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


def _train_alone(
    graphs: GraphCollection,
    source: GraphSource,
    architecture: Architecture,
    protocol: Protocol,
    runtime: Runtime,
    *,
    on: Callable[[int], None],
) -> Outcome:
    """One network on graphs without padding; `on` is told after each epoch."""
    method = TrainGraphNetwork(architecture=architecture, protocol=protocol, graphs=len(graphs))
    state = method.build_on(graphs, source, runtime)
    for _ in range(protocol.epochs):
        for _ in range(method.batches):
            method.step(state, runtime)
        on(1)
    return method.result(state, runtime).outcome


def _as_stack(network: GraphNetwork) -> Parameters:
    return {name: parameter.unsqueeze(0) for name, parameter in network.named_parameters()}


def _batch(graphs: GraphCollection, rows: Tensor, runtime: Runtime) -> tuple[JoinedGraphs, Tensor]:
    return graphs.joined(rows, runtime.device), graphs.labels[rows].to(runtime.device)


def _network(architecture: Architecture, source: GraphSource, runtime: Runtime) -> GraphNetwork:
    """A network whose parameters depend on the seed and on nothing else."""
    return architecture.build(source.features, source.outputs, runtime.generator("network")).to(runtime.device)
