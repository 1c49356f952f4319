"""Moving averages of a module's weights: an encoder that follows another one slowly (MoCo), or the average to keep."""

import torch
from torch import nn


@torch.no_grad()
def follow_(slow: nn.Module, fast: nn.Module, decay: float) -> None:
    """θ_slow ← m θ_slow + (1 - m) θ_fast, in place. Buffers, such as the statistics of batch norm, are copied.

    Args:
        slow: The module that follows. Its weights may be of a wider type.
        fast: A module of the same parameters.
        decay: m, from 0 (a copy) to 1 (no change).
    """
    theirs = dict(fast.named_parameters())
    for name, weights in slow.named_parameters():
        weights.lerp_(theirs[name].to(weights.dtype), 1 - decay)
    buffers = dict(fast.named_buffers())
    for name, buffer in slow.named_buffers():
        buffer.copy_(buffers[name])


def ramped(decay: float, done: int) -> float:
    """The decay of an average over all steps that are done, until these are many: min(m, (1 + t) / (10 + t)).

    With a decay near 1 the average would otherwise be the fresh weights for most of a short run.

    Args:
        decay: m.
        done: t, the steps that are done.
    """
    return min(decay, (1 + done) / (10 + done))
