"""Moving averages of a module's weights: an encoder that follows another one slowly (MoCo), or the average to keep."""

import torch
from torch import nn


@torch.no_grad()
def follow_(slow: nn.Module, fast: nn.Module, decay: float) -> None:
    """θ_slow ← m θ_slow + (1 - m) θ_fast, in place. Buffers, such as the statistics of batch norm, are copied.

    Args:
        slow: The module that follows.
        fast: A module of the same parameters.
        decay: m, from 0 (a copy) to 1 (no change).
    """
    theirs = fast.state_dict()
    parameters = dict(slow.named_parameters())
    for name, value in slow.state_dict().items():
        if name in parameters:
            parameters[name].lerp_(theirs[name], 1 - decay)
        else:
            value.copy_(theirs[name])
