"""Networks trained one after another, on the same examples or each on its own examples, and their accuracy."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.images import layout
from attar.images.data.pixels import Batch, Split
from attar.images.data.whiten import Transform
from attar.images.networks.pretrained import seeing
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
    """Networks trained one after another. The i-th network has the i-th seed, whatever the examples.

    Args:
        method: Resolved settings.
        examples: Training examples, or a function that gives the examples of the i-th network, all of one size.
        runtime: The machine and the seed from which the repeats' seeds are derived.
        repeats: Number of networks, or their numbers.
        build: A function from a seed to the user's own network, in place of the method's architecture.
        steps: Number of mini-batches after which to stop, in place of the protocol's epochs.
        watch: Called after every mini-batch with the number of mini-batches of all networks so far.
    """
    state, taken, say = None, 0, cache(runtime.say)  # each line once, not for each network
    each = examples if callable(examples) else lambda repeat: examples
    for repeat in range(repeats) if isinstance(repeats, int) else repeats:
        turn = runtime.with_seed(derived_seed(runtime.seed, f"repeat {repeat}"))
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
            taken += 1
            watch(taken)
        yield state.network.eval()


@torch.inference_mode()
def accuracy(
    network: nn.Module, split: Split, transform: Transform, runtime: Runtime, *, centred: bool = False
) -> float:
    """Accuracy of a network on a split, in per cent, computed in float32. Only one number is copied from the device.

    If `centred`, it is tested on the middle of the images, after they are scaled up to side // 7 · 8.
    """
    right = torch.zeros((), dtype=torch.long, device=runtime.device)
    at_once = min(layout.at_once(split.pixels.shape, runtime), 4096)
    for rows in torch.arange(len(split)).split(at_once):
        pixels = split.pixels[rows].to(runtime.device)
        images = transform.forward(centre(pixels) if centred else pixels)
        logits = network(layout.ordered(images, runtime))
        right += (logits.argmax(dim=1) == split.labels[rows].to(runtime.device)).sum()
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
