"""Optimisers and schedules of encoders: SGD, Adam, AdamW and LARS; half a cosine, OneCycle, and steps, after a rise."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from attar.core.training import after_cuts, betas_of, half_cosine, linear_rise, spared

TRUST = 0.001
"""η of LARS in You et al., and in the code of SimCLR and SogCLR."""
START, END = 1 / 25, 1e-4
"""Of OneCycle: the first step size as a share of the largest, and the last as a share of the first."""
ROUNDING = 1e-9


def optimizer_of(learned: Sequence[nn.Parameter], how: Any) -> torch.optim.Optimizer:
    """The optimiser of a method's settings. Biases and norms, all parameters of a single axis, have no weight decay."""
    groups = spared(learned)
    if how.optimizer == "lars":
        groups[1]["adapted"] = False
        return LARS(groups, how.lr, how.momentum, weight_decay=how.weight_decay)
    if how.optimizer == "sgd":
        return torch.optim.SGD(groups, how.lr, how.momentum, weight_decay=how.weight_decay)
    family = torch.optim.AdamW if how.optimizer == "adamw" else torch.optim.Adam
    return family(groups, how.lr, betas=betas_of(how.momentum), weight_decay=how.weight_decay)


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose step for each tensor of weights is in proportion to the norm of the weights.

    With g the gradient, β the weight decay, m the momentum and γ the step size:
    λ = η ‖w‖ / (‖g‖ + β ‖w‖), v ← m v + γ λ (g + β w), w ← w - v. Where ‖w‖ or ‖g‖ is zero, λ is 1. In parameter groups
    with `adapted=False`, which are for biases and norms, λ is 1.

    You, Gitman and Ginsburg, Large Batch Training of Convolutional Networks, 2017, arXiv:1708.03888. Released codes of
    self-supervised learning divide by ‖g + β w‖ instead.

    Args:
        params: Parameters, or groups of them.
        lr: The step size γ.
        momentum: m.
        weight_decay: β.
        trust: η, the size of a step relative to the weights.
    """

    def __init__(
        self, params: Any, lr: float, momentum: float = 0.9, *, weight_decay: float = 0.0, trust: float = TRUST
    ) -> None:
        usual = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapted": True}
        super().__init__(params, usual)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. A closure, if there is one, computes the loss again."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            decay, momentum = group["weight_decay"], group["momentum"]
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                change = weights.grad.add(weights, alpha=decay) if decay else weights.grad.clone()
                if group["adapted"]:
                    change *= _ratio(weights, weights.grad, decay, group["trust"])
                change *= group["lr"]
                if momentum and weights in self.state:
                    change = self.state[weights]["momentum_buffer"].mul_(momentum).add_(change)
                elif momentum:
                    self.state[weights]["momentum_buffer"] = change
                weights.sub_(change)
        return loss


def _ratio(weights: torch.Tensor, gradient: torch.Tensor, decay: float, trust: float) -> torch.Tensor:
    """The λ of one tensor."""
    size, slope = weights.norm(), gradient.norm()
    defined = (size > 0) & (slope > 0)
    return torch.where(defined, trust * size / torch.where(defined, slope + decay * size, 1.0), 1.0)


def share_of(how: Any, progress: float) -> float:
    """What the step size is multiplied by.

    Args:
        how: Settings with schedule, epochs, encoder_steps, cuts, cut_factor, cycle_rise and lr_warm_up. A schedule but
            steps, whose cuts are shares of all epochs, begins after the warm-up.
        progress: Share of the run that is done before the step.
    """
    step, total = progress * how.encoder_steps, how.encoder_steps
    warm_up = how.lr_warm_up * total
    if step < warm_up - ROUNDING:
        return linear_rise(step + 1, warm_up)
    if how.schedule == "cosine":
        return half_cosine(step - warm_up, max(total - warm_up, 1.0))
    if how.schedule == "onecycle":
        return one_cycle(step - warm_up, total - warm_up, how.cycle_rise)
    if how.schedule == "steps":
        epoch = math.floor(progress * how.epochs + ROUNDING)
        return after_cuts(epoch, [cut * how.epochs - ROUNDING for cut in how.cuts], how.cut_factor)
    return 1.0


def one_cycle(step: float, total: float, rise: float) -> float:
    """Half a cosine from 1/25 up to 1, and another down to 1/250,000, as in torch's OneCycleLR.

    Smith and Topin, Super-Convergence, 2017, arXiv:1708.07120. The momentum stays as it is.

    Args:
        step: The number of the step, the first of which is 0.
        total: All steps.
        rise: Share of them in which the step size rises.
    """
    top, last = rise * total - 1, total - 1
    if step <= top:
        return _between(START, 1.0, step / top if top > 0 else 1.0)
    way = (step - max(top, 0.0)) / max(last - max(top, 0.0), ROUNDING)
    return _between(1.0, START * END, min(way, 1.0))


def _between(start: float, end: float, way: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * half_cosine(way)
