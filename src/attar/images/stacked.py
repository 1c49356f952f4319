"""Several small networks trained at once: their parameters are stacked, and each step is one pass for all of them.

A network for 32×32 pixels fills a small part of a GPU, so ten of them take hardly longer than one. Each has the start,
the order of images and the augmentation that it has alone, so that it ends with the same parameters, up to the order in
which sums are added.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from attar.core.runtime import Runtime
from attar.core.training import next_rows
from attar.images import layout
from attar.images.networks.architecture import mixes_images, redraw_
from attar.images.targets import Examples, loss_of, shown, targeted
from attar.images.training import TrainNetwork, optimizer_for

MOST = 10
"""Networks that are trained at once."""


@dataclass
class Stack:
    """Networks in training: each parameter of all of them in one tensor."""

    network: nn.Module
    """One of them, which gives the form."""
    weights: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    gradient: Callable[..., tuple[dict[str, Tensor], Tensor]]
    orders: list[Tensor]
    done: int = 0


def together(method: TrainNetwork, examples: Examples, runtime: Runtime) -> int:
    """Number of networks that fill a GPU; 1 if they need a teacher, stored labels, masks, or batch statistics."""
    protocol = method.protocol
    if protocol.target != "label" or protocol.loss != "cross-entropy" or protocol.dropout:
        return 1
    if mixes_images(method.architecture.build(examples.shape, len(examples.classes), torch.Generator())):
        return 1
    batch = min(protocol.batch, method.images)
    return max(1, min(MOST, layout.at_once(examples.shape, runtime) // batch))


def trained_together(
    method: TrainNetwork,
    examples: Sequence[Examples],
    turns: Sequence[Runtime],
    *,
    steps: int | None = None,
    watch: Callable[[], None] = lambda: None,
) -> Iterator[nn.Module]:
    """Networks trained at once, one after another as they are tested: the module is the same, with other parameters.

    Args:
        method: Resolved settings.
        examples: The examples of each network, all of one size.
        turns: The machine with the seed of each network.
        steps: Number of mini-batches after which to stop, in place of the protocol's epochs.
        watch: Called after every mini-batch of each network.
    """
    state = _build(method, examples[0], turns)
    for _ in range(method.total_steps if steps is None else steps):
        _step(method, state, examples, turns)
        for _ in turns:
            watch()
    for place in range(len(turns)):
        with torch.no_grad():
            for name, parameter in state.network.named_parameters():
                parameter.copy_(state.weights[name][place])
        yield state.network.eval()


def _build(method: TrainNetwork, examples: Examples, turns: Sequence[Runtime]) -> Stack:
    machine = turns[0]
    network = method.architecture.build(examples.shape, len(examples.classes), torch.Generator())
    network.to(machine.device).train()  # in the usual layout: vmap has no channels-last
    starts: list[dict[str, Tensor]] = []
    for turn in turns:
        redraw_(network, turn.generator("network", str(turn.device)))
        starts.append({name: parameter.detach().clone() for name, parameter in network.named_parameters()})
    weights = {name: nn.Parameter(torch.stack([start[name] for start in starts])) for name in starts[0]}

    def loss(weights: dict[str, Tensor], images: Tensor, targets: Tensor) -> Tensor:
        logits = functional_call(network, weights, (images,)).float()
        return loss_of(logits, targets, method.protocol) / len(images)

    return Stack(
        network=network,
        weights=weights,
        optimizer=optimizer_for(list(weights.values()), method.protocol, stacked=True),
        gradient=machine.compiled(vmap(grad_and_value(loss)), training=True),
        orders=[torch.arange(method.images) for _ in turns],
    )


def _step(method: TrainNetwork, state: Stack, examples: Sequence[Examples], turns: Sequence[Runtime]) -> Any:
    epoch, batch = divmod(state.done, method.batches)
    if batch == 0:
        method.begin_epoch(epoch, state.optimizer)
    seen = [
        _batch(method, order, state.done, of, turn)
        for order, of, turn in zip(state.orders, examples, turns, strict=True)
    ]
    images, targets = (torch.stack(parts) for parts in zip(*seen, strict=True))
    gradients, _ = state.gradient({name: weight.detach() for name, weight in state.weights.items()}, images, targets)
    for name, weight in state.weights.items():
        weight.grad = gradients[name]
    state.optimizer.step()
    state.done += 1


def _batch(method: TrainNetwork, order: Tensor, done: int, examples: Examples, turn: Runtime) -> tuple[Tensor, Tensor]:
    """What a network sees in a step."""
    rows = next_rows(order, done, method.protocol.batch, turn.generator("shuffle"))
    images, labels = shown(rows, examples, method.protocol, turn)
    images, targets = targeted(images, rows, examples, method.protocol, turn, labels=labels)
    return images.contiguous(), targets
