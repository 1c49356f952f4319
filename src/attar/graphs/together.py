"""Networks on condensed sets, many at once: those whose sets have one shape are trained together, in one pass."""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.training import set_lr
from attar.graphs.artefact import CondensedGraphs
from attar.graphs.collection import GraphCollection
from attar.graphs.networks import Architecture, classification_loss
from attar.graphs.sources import GraphSource
from attar.graphs.structures import PaddedGraphs
from attar.graphs.trained import TrainGraphNetwork
from attar.graphs.training import Follow, Outcome, Parameters, Protocol, network_of

AT_ONCE = 16
"""Networks that are trained together; more would not go quicker on a CPU."""
WASTE, SIZE_STEP = 2, 16
"""A set that padding would more than double is trained on without padding, by itself; the others are put together with
those whose largest graph falls into the same step of sizes."""


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
    networks = [network_of(architecture, source, turn) for source, turn in zip(sources, turns, strict=True)]
    generators = [turn.generator("order") for turn in turns]
    inputs = [tensor.to(runtime.device) for tensor in _stacked(smalls)]
    parameters, _ = stack_module_state(networks)
    network = copy.deepcopy(networks[0])

    def loss(own: Parameters, x: Tensor, adjacency: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        logits = functional_call(network, own, (PaddedGraphs(x, adjacency, mask),))
        return classification_loss(logits, labels)

    follow = Follow(network, [source.validation for source in sources], sources[0].metric, runtime)
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
