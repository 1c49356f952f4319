"""Networks trained one after another on the same examples, or each on its own, and how often they are right."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.images import layout
from attar.images.data.pixels import Split
from attar.images.data.whiten import Transform
from attar.images.targets import Examples
from attar.images.training import TrainNetwork


def trainings(
    method: TrainNetwork,
    examples: Examples | Callable[[int], Examples],
    runtime: Runtime,
    *,
    repeats: int | Sequence[int],
    build: Callable[[int], nn.Module] | None = None,
    steps: int | None = None,
    watch: Callable[[int], None] = lambda taken: None,
) -> Iterator[nn.Module]:
    """Networks trained one after another; the i-th from the i-th seed, whatever the examples.

    Args:
        method: Resolved settings.
        examples: What to train on, or a function that gives the i-th network's examples, all equally many.
        runtime: The machine and the seed from which the repeats' seeds come.
        repeats: How many networks, or which.
        build: The user's own network for a seed, in place of the method's architecture.
        steps: Stop after so many mini-batches, in place of the protocol's epochs.
        watch: Told after every mini-batch how many have been taken, by all networks together.
    """
    state, taken = None, 0
    each = examples if callable(examples) else lambda repeat: examples
    for repeat in range(repeats) if isinstance(repeats, int) else repeats:
        turn = runtime.with_seed(derived_seed(runtime.seed, f"repeat {repeat}"))
        if build is not None:
            state = method.build_with(build(turn.seed), each(repeat), turn)
        elif state is None:
            state = method.build(each(repeat), turn)
        else:
            method.restart(state, turn)
            state.examples = each(repeat)
        for _ in range(method.total_steps if steps is None else steps):
            method.step(state, turn)
            taken += 1
            watch(taken)
        yield state.network.eval()


@torch.inference_mode()
def accuracy(network: nn.Module, split: Split, transform: Transform, runtime: Runtime) -> float:
    """Per cent of a split that a network labels rightly, in float32; only one number leaves the device."""
    right = torch.zeros((), dtype=torch.long, device=runtime.device)
    at_once = min(layout.at_once(split.pixels.shape, runtime), 4096)
    for rows in torch.arange(len(split)).split(at_once):
        images = transform.forward(split.pixels[rows].to(runtime.device))
        logits = network(layout.ordered(images, runtime))
        right += (logits.argmax(dim=1) == split.labels[rows].to(runtime.device)).sum()
    return 100 * right.item() / len(split)
