"""Networks trained one after another or several at once, on the same examples or each on its own; their accuracy."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count

import torch
import torch.nn.functional as F
from torch import nn

from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.sending import sent
from attar.images import layout
from attar.images.data.pixels import Batch, Split
from attar.images.data.whiten import Transform
from attar.images.networks.pretrained import seeing
from attar.images.stacked import together, trained_together
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
    """Networks trained one after another, or several at once on a GPU.

    The i-th network has the i-th seed, whatever the examples. The module is the same each time, so it is used before
    the next is asked for.

    Args:
        method: Resolved settings.
        examples: Training examples, or a function that gives the examples of the i-th network, all of one size.
        runtime: The machine and the seed from which the repeats' seeds are derived.
        repeats: Number of networks, or their numbers.
        build: A function from a seed to the user's own network, in place of the method's architecture.
        steps: Number of mini-batches after which to stop, in place of the protocol's epochs.
        watch: Called after every mini-batch with the number of mini-batches of all networks so far.
    """
    taken, say = count(1), cache(runtime.say)  # each line once, not for each network
    each = examples if callable(examples) else lambda repeat: examples
    numbers = list(range(repeats) if isinstance(repeats, int) else repeats)
    turns = {number: runtime.with_seed(derived_seed(runtime.seed, f"repeat {number}")) for number in numbers}

    def seen() -> None:
        watch(next(taken))

    several = build is None and len(numbers) > 1 and on_a_gpu(runtime) and runtime.processes.count == 1
    at_once = together(method, each(numbers[0]), runtime) if several else 1
    if at_once > 1:
        for first in range(0, len(numbers), at_once):
            some = numbers[first : first + at_once]
            theirs, machines = [each(number) for number in some], [turns[number] for number in some]
            yield from trained_together(method, theirs, machines, steps=steps, watch=seen)
        return
    state = None
    for repeat, turn in turns.items():
        if build is not None:
            its_own = each(repeat)
            state = method.build_with(seeing(build(turn.seed), its_own, say), its_own, turn)
        elif state is None:
            state = method.build(each(repeat), turn)
        else:
            method.restart(state, turn)
            state.examples = each(repeat)
        for _ in range(method.total_steps if steps is None else steps):
            method.step(state, turn)
            seen()
        yield state.network.eval()


def on_a_gpu(runtime: Runtime) -> bool:
    """Whether networks may share a device that one of them does not fill."""
    return runtime.device.type != "cpu"


@torch.inference_mode()
def accuracy(
    network: nn.Module, split: Split, transform: Transform, runtime: Runtime, *, centred: bool = False
) -> float:
    """Accuracy of a network on a split, in per cent, computed in float32. Only one number is copied from the device.

    If `centred`, it is tested on the middle of the images, after they are scaled up to side // 7 · 8.
    """
    right = torch.zeros((), dtype=torch.long, device=runtime.device)
    at_once = min(layout.at_once(split.pixels.shape, runtime), 4096)
    transform = sent(transform, runtime.device)
    for rows in torch.arange(len(split)).split(at_once):
        pixels, labels = sent((split.pixels[rows], split.labels[rows]), runtime.device)
        images = transform.forward(centre(pixels) if centred else pixels)
        logits = network(layout.ordered(images, runtime))
        right += (logits.argmax(dim=1) == labels).sum()
    return 100 * right.item() / len(split)


def centre(pixels: Batch) -> Batch:
    """The middle of images after they are scaled up to side // 7 · 8, or the images if that is not larger."""
    size = pixels.shape[2], pixels.shape[3]
    larger = min(size) // 7 * 8
    if larger <= min(size):
        return pixels
    unit = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
    whole = [round(side * larger / min(size)) for side in size]
    scaled = F.interpolate(unit, size=whole, mode="bilinear", antialias=True).clamp(0, 1)
    top, left = ((full - side) // 2 for full, side in zip(whole, size, strict=True))
    return scaled[:, :, top : top + size[0], left : left + size[1]]
