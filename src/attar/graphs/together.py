"""Trains networks on many condensed sets. Networks whose sets have the same shape are trained together, in one pass."""

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
from attar.graphs.networks import Architecture, classification_loss, drawn_for, labels_loss
from attar.graphs.protocols import Protocol
from attar.graphs.sources import GraphSource
from attar.graphs.structures import PaddedGraphs
from attar.graphs.trained import TrainGraphNetwork
from attar.graphs.training import Follow, Outcome, Parameters, network_of

AT_ONCE = 16
"""Number of networks that are trained together. More would not be faster on a CPU."""
WASTE, SIZE_STEP = 2, 16
"""Limits of padding. If padding would more than double a set, its network is trained alone, without padding. Other sets
are trained together with those whose largest graph has a similar number of nodes, in steps of `SIZE_STEP`."""


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
    """Train a network on each condensed set and test it on its source. Sets of one shape are trained together.

    Args:
        sets: Condensed sets and their sources.
        architecture: The network, without batch norm.
        protocol: The protocol of training.
        seeds: A seed for each set, for its network's parameters and the order of its graphs.
        runtime: The machine.
        watch: Called with the number of epochs done so far, summed over all networks.
        tell: Called with the outcome of a network as soon as it is tested.

    Raises:
        InputError: The network has batch norm.
    """
    if architecture.norm == "batch":
        raise InputError("norm=batch is for matching only; evaluate with norm=none or norm=instance.")
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
    """Train networks of one shape together, an epoch at a time. `on` is called with the number of epochs done."""
    smalls, sources = [small for small, _ in sets], [source for _, source in sets]
    turns = [runtime.with_seed(seed) for seed in seeds]
    networks = [network_of(architecture, source, turn) for source, turn in zip(sources, turns, strict=True)]
    generators = [turn.generator("order") for turn in turns]
    inputs = [tensor.to(runtime.device) for tensor in _stacked(smalls)]
    parameters, _ = stack_module_state(networks)
    network = copy.deepcopy(networks[0])

    labels_by = labels_loss(protocol.loss)

    def loss(
        own: Parameters, x: Tensor, adjacency: Tensor, mask: Tensor, labels: Tensor, drawn: dict[str, Tensor]
    ) -> Tensor:
        logits = functional_call(network, own, (PaddedGraphs(x, adjacency, mask), drawn.get("masks")))
        return classification_loss(logits, labels, labels_by, drawn.get("drawn"))

    follow = Follow(network, [source.validation for source in sources], sources[0].metric, runtime)
    optimizer = torch.optim.Adam(parameters.values(), protocol.training_lr)
    for epoch in range(protocol.epochs):
        set_lr(optimizer, protocol.lr_at(epoch))
        for x, adjacency, mask, labels in _batches(inputs, protocol.batch, generators):
            optimizer.zero_grad(set_to_none=True)
            # Each set draws from its own generators, as when it is trained alone.
            draws = [drawn_for(protocol, labels_by, x.shape[1], network, turn) for turn in turns]
            drawn = {name: torch.stack([one[name] for one in draws]) for name in draws[0]}
            vmap(loss)(parameters, x, adjacency, mask, labels, drawn).sum().backward()
            optimizer.step()
        if protocol.looks_after(epoch + 1):
            follow.look(parameters, epoch + 1)
        on(len(sets))
    return follow.outcomes(parameters, [source.test for source in sources])


def _stacked(smalls: Sequence[CondensedGraphs]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, adjacency, mask and labels of sets with equally many graphs, `[set, graph, ...]`, with padding."""
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
    """Yield every set's graphs once: in one batch if they fit, otherwise in a random order of each set."""
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
    """Train one network on graphs without padding. `on` is called with 1 after each epoch."""
    method = TrainGraphNetwork(architecture=architecture, protocol=protocol, graphs=len(graphs))
    state = method.build_on(graphs, source, runtime)
    for _ in range(protocol.epochs):
        for _ in range(method.batches):
            method.step(state, runtime)
        on(1)
    return method.result(state, runtime).outcome
