"""How networks learn from a set of graphs: many at once from condensed sets, one at a time from all the real graphs.

The field's protocol (DosCond's code): Adam at 0.001, a tenth of it from half-way on, batches of 128, 500 epochs. What
it reports is the epoch with the best validation score; the last epoch stands beside it here.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from attar.core import store
from attar.core.errors import InputError, named
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.settings import Range, Settings
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


def train_on_condensed(
    sets: Sequence[tuple[CondensedGraphs, GraphSource]],
    architecture: Architecture,
    protocol: Protocol,
    seeds: Sequence[int],
    runtime: Runtime,
    *,
    watch: Callable[[int], None] = lambda taken: None,
) -> list[Outcome]:
    """A network on each of some condensed sets, with the source that tests it; sets of one shape are trained together.

    Args:
        sets: Condensed sets and their sources.
        architecture: The network, without batch norm.
        protocol: How it is trained.
        seeds: One for each set: of its network's parameters and the order of its graphs.
        runtime: The machine.
        watch: Told how many epochs have been taken, by all networks together.

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
            network = _seeded(architecture, source, seeds[number], runtime)
            found = _train_alone(network, small.graphs, source, protocol, seeds[number], runtime, on=on)
            assert found is not None, "it had all the time there is"
            outcomes[number] = found
        else:
            shape = (len(small), source.features, source.outputs, int(small.sizes.max()) // SIZE_STEP)
            together.setdefault(shape, []).append(number)
    for numbers in together.values():
        for start in range(0, len(numbers), AT_ONCE):
            part = numbers[start : start + AT_ONCE]
            several = _train_together(
                [sets[n] for n in part], architecture, protocol, [seeds[n] for n in part], runtime, on=on
            )
            outcomes |= dict(zip(part, several, strict=True))
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
    networks = [_seeded(architecture, source, seed, runtime) for source, seed in zip(sources, seeds, strict=True)]
    generators = [_order(seed) for seed in seeds]
    inputs = [tensor.to(runtime.device) for tensor in _stacked(smalls)]
    parameters, _ = stack_module_state(networks)
    network = copy.deepcopy(networks[0])

    def loss(own: Parameters, x: Tensor, adjacency: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        logits = functional_call(network, own, (PaddedGraphs(x, adjacency, mask),))
        return classification_loss(logits, labels)

    follow = _Follow(network, [source.validation for source in sources], sources[0].metric, runtime)
    optimizer = torch.optim.Adam(parameters.values(), protocol.training_lr)
    for epoch in range(1, protocol.epochs + 1):
        for batch in _batches(inputs, protocol.batch, generators):
            optimizer.zero_grad(set_to_none=True)
            vmap(loss)(parameters, *batch).sum().backward()
            optimizer.step()
        if epoch == protocol.epochs // 2:
            optimizer.param_groups[0]["lr"] *= 0.1
        if epoch % protocol.look_every == 0 or epoch == protocol.epochs:
            follow.look(parameters, epoch)
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


class _Follow:
    """Keeps the parameters of each network at its best validation score."""

    def __init__(
        self, network: GraphNetwork, validation: Sequence[GraphCollection], metric: Metric, runtime: Runtime
    ) -> None:
        self.network, self.metric, self.runtime = network, metric, runtime
        self.validation = validation
        self.best = [(-1.0, 0)] * len(validation)
        self.kept: list[Parameters] = [{} for _ in validation]

    def look(self, parameters: Parameters, epoch: int) -> None:
        """Look at all of them after an epoch."""
        for number, graphs in enumerate(self.validation):
            own = {name: tensor[number].detach() for name, tensor in parameters.items()}
            found = self._score(own, graphs)
            if found > self.best[number][0]:
                self.best[number] = found, epoch
                self.kept[number] = {name: tensor.clone() for name, tensor in own.items()}

    def outcomes(self, parameters: Parameters, tests: Sequence[GraphCollection]) -> list[Outcome]:
        """Test the best and the last of each."""
        found = []
        for number, graphs in enumerate(tests):
            own = {name: tensor[number].detach() for name, tensor in parameters.items()}
            score, epoch = self.best[number]
            found.append(Outcome(self._score(self.kept[number], graphs), self._score(own, graphs), score, epoch))
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


@dataclass(frozen=True)
class Trained:
    """A network trained on all the real graphs, and what it came to."""

    network: GraphNetwork
    """At the last epoch."""
    outcome: Outcome


def trained(
    source: GraphSource,
    architecture: Architecture,
    protocol: Protocol,
    runtime: Runtime,
    *,
    seed: int = 0,
    most: float | None = None,
) -> Trained | None:
    """A network trained on all training graphs, from the cache where it was trained before.

    Args:
        source: The graphs.
        architecture: The network.
        protocol: How it is trained.
        runtime: The machine.
        seed: Of parameters and order.
        most: Seconds it may take; None for as many as it does.

    Returns:
        None where the first epochs tell that it would take longer.
    """
    told = {"data": source.fingerprint, "network": architecture.to_json(), "protocol": protocol.to_json(), "seed": seed}
    place = store.cache_folder() / f"graph-network-{store.digest_of({}, told)}.safetensors"
    network = _seeded(architecture, source, seed, runtime)
    if place.exists():
        tensors, plain = store.read_tensors(place)
        network.load_state_dict(tensors)
        return Trained(network, Outcome(**plain))
    outcome = _train_alone(network, source.train, source, protocol, seed, runtime, most=most)
    if outcome is None:
        return None
    store.write_tensors(place, dict(network.state_dict()), vars(outcome))
    return Trained(network, outcome)


def _train_alone(
    network: GraphNetwork,
    graphs: GraphCollection,
    source: GraphSource,
    protocol: Protocol,
    seed: int,
    runtime: Runtime,
    *,
    most: float | None = None,
    on: Callable[[int], None] = lambda epochs: None,
) -> Outcome | None:
    """Train one network on graphs without padding; None where the first epochs tell that it would take too long."""
    follow, generator = _Follow(network, [source.validation], source.metric, runtime), _order(seed)
    optimizer = torch.optim.Adam(network.parameters(), protocol.training_lr)
    whole = _batch(graphs, torch.arange(len(graphs)), runtime) if len(graphs) <= protocol.batch else None
    began = time.monotonic()
    for epoch in range(1, protocol.epochs + 1):
        for rows in torch.randperm(len(graphs), generator=generator).split(protocol.batch):
            batch, labels = whole or _batch(graphs, rows, runtime)
            loss = classification_loss(network(batch), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if most is not None and epoch == 2 and (time.monotonic() - began) / 2 * protocol.epochs > most:
            return None
        if epoch == protocol.epochs // 2:
            optimizer.param_groups[0]["lr"] *= 0.1
        if epoch % protocol.look_every == 0 or epoch == protocol.epochs:
            follow.look(_as_stack(network), epoch)
        on(1)
    return follow.outcomes(_as_stack(network), [source.test])[0]


def _as_stack(network: GraphNetwork) -> Parameters:
    return {name: parameter.unsqueeze(0) for name, parameter in network.named_parameters()}


def _batch(graphs: GraphCollection, rows: Tensor, runtime: Runtime) -> tuple[JoinedGraphs, Tensor]:
    return graphs.joined(rows, runtime.device), graphs.labels[rows].to(runtime.device)


def _seeded(architecture: Architecture, source: GraphSource, seed: int, runtime: Runtime) -> GraphNetwork:
    """A network whose parameters depend on the seed and on nothing else."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "network"))
    return architecture.build(source.features, source.outputs, generator).to(runtime.device)


def _order(seed: int) -> torch.Generator:
    """Draws the order of a training set."""
    return torch.Generator().manual_seed(derived_seed(seed, "order"))
