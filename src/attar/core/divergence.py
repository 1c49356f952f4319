"""Checks that stop a run whose loss or learned values are not finite, or are far too large.

The message names step sizes as flags of the method that runs, even if a network beside it has diverged.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor

from attar.core.checks import is_step_size
from attar.core.errors import Diverged
from attar.core.flags import Flag, flags_of
from attar.core.hints import kind_of_type
from attar.core.settings import Settings

LARGEST = 1e6
"""Learned pixels and features beyond this count as diverged; normalised ones are a few units large."""


def step_sizes(settings: Any) -> list[Flag]:
    """The step sizes among settings, or in a class of them; those of networks beside a method have a role."""
    family = settings if isinstance(settings, type) else type(settings)
    known = issubclass(family, Settings) and is_dataclass(family)
    return [flag for flag in flags_of(settings) if _is_step_size(flag)] if known else []


def diverged(what: str, method: Any) -> Diverged:
    """The refusal of a run, with the method's own step sizes; where it has none, with those of what it is made of.

    Args:
        what: What became what, and when.
        method: Settings.
    """
    sizes = step_sizes(method)
    return Diverged.of(what, [flag for flag in sizes if "." not in flag.name] or sizes)


def at_step(error: Diverged, step: int, method: Any) -> Diverged:
    """A refusal from within a step or a result, with the step and the method's own step sizes, where it names none."""
    there = diverged(f"{error.what} at step {step}", method)
    return there if there.flags and not error.flags else error


@contextmanager
def told_by(*settings: Any) -> Iterator[None]:
    """Name the step sizes of whatever diverges within by the flags that these settings have for them."""
    try:
        yield
    except Diverged as error:
        if not error.flags:
            raise
        known = [flag for one in settings for flag in step_sizes(one)]
        same = {(flag.owner, flag.path[-1]) for flag in error.flags}
        raise Diverged.of(error.what, [flag for flag in known if (flag.owner, flag.path[-1]) in same]) from None


class Unlogged:
    """What is known of the metrics of steps that are not logged, without waiting for a GPU at each of them."""

    def __init__(self) -> None:
        self.zeros: dict[str, Any] = {}
        """Of each metric a sum of zeros, which is no zero any more once the metric was not finite."""

    def see(self, metrics: Mapping[str, Tensor | float]) -> None:
        """Take note of a step."""
        for name, value in metrics.items():
            self.zeros[name] = self.zeros.get(name, 0.0) + value * 0

    def check(self, step: int, method: Any) -> None:
        """See that all were finite since the last look.

        Raises:
            Diverged: One was not.
        """
        for name, zero in self.zeros.items():
            if float(zero) != 0:
                raise diverged(f"{name} was infinite or not a number before step {step}", method)
        self.zeros = {}


def check_metrics(metrics: Mapping[str, float], step: int, method: Any) -> None:
    """See that metrics are finite.

    Raises:
        Diverged: One is not.
    """
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise diverged(f"{name} became {value} at step {step}", method)


def check_learned(learned: Mapping[str, Tensor], most: float, step: int, method: Any) -> None:
    """See that what was learned is finite and not too large: one pass over each tensor.

    Args:
        learned: Tensors by what they are called.
        most: The largest size of a value, infinite where any finite one may be.
        step: After which.
        method: Settings.

    Raises:
        Diverged: It is not.
    """
    found = {name: tensor.detach() for name, tensor in learned.items() if tensor.is_floating_point() and tensor.numel()}
    if not found:
        return
    sizes = [_largest(tensor) for tensor in found.values()]
    together = torch.stack([size.to(sizes[0].device) for size in sizes])  # a GPU is waited for once
    for name, largest in zip(found, together.tolist(), strict=True):
        if not largest <= most or math.isinf(largest):
            raise diverged(f"{name} became {largest:.3g} at step {step}", method)


def _largest(tensor: Tensor) -> Tensor:
    """The largest size of a value; NaN if there is one."""
    low, high = tensor.aminmax()
    return torch.maximum(-low, high).float()


def _is_step_size(flag: Flag) -> bool:
    return is_step_size(flag.path[-1]) and kind_of_type(flag.hint) == "number"
