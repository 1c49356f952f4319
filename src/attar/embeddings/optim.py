"""Optimisers and schedules of encoders: SGD, Adam, AdamW and LARS; half a cosine, OneCycle, and steps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from attar.core.training import after_cuts, half_cosine, linear_rise


def optimizer_of(learned: Sequence[nn.Parameter], how: Any) -> torch.optim.Optimizer:
    """The optimiser of a method's settings. Biases and norms, all parameters of a single axis, have no weight decay."""
    groups: list[dict[str, Any]] = [
        {"params": [one for one in learned if one.ndim > 1]},
        {"params": [one for one in learned if one.ndim <= 1], "weight_decay": 0.0},
    ]
    if how.optimizer == "sgd":
        return torch.optim.SGD(groups, how.lr, how.momentum, weight_decay=how.weight_decay)
    family = torch.optim.AdamW if how.optimizer == "adamw" else torch.optim.Adam
    return family(groups, how.lr, betas=(how.momentum, 0.999), weight_decay=how.weight_decay)


def share_of(how: Any, progress: float) -> float:
    """What the step size is multiplied by.

    Args:
        how: Settings with schedule, cuts and lr_warm_up.
        progress: Share of the run that is done before the step.
    """
    if progress < how.lr_warm_up:
        return linear_rise(progress, how.lr_warm_up)
    if how.schedule == "cosine":
        return half_cosine(progress)
    if how.schedule == "steps":
        return after_cuts(0, [cut - progress for cut in how.cuts])
    return 1.0
