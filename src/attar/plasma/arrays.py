"""The few things that NumPy and PyTorch call by other names, so that one source of the scheme serves both."""

from types import ModuleType
from typing import Any

Array = Any
"""A NumPy array, or a tensor on any device."""


def module_of(array: Array) -> ModuleType:
    """The module whose functions take an array: numpy or torch."""
    import numpy

    if isinstance(array, numpy.ndarray):
        return numpy
    import torch

    return torch


def like(values: Any, array: Array) -> Array:
    """Numbers as an array of the type and on the device of another."""
    xp = module_of(array)
    return xp.asarray(values, dtype=array.dtype, **({"device": array.device} if xp.__name__ == "torch" else {}))


def flipped(array: Array, axis: int) -> Array:
    """An array in reverse order along an axis."""
    return module_of(array).flip(array, (axis,))


def along(array: Array, axis: int, start: int, stop: int | None) -> Array:
    """A slice of an array along one of its last two axes, counted from the end."""
    return array[..., start:stop] if axis == -1 else array[..., start:stop, :]


def numbers(array: Array) -> Any:
    """A NumPy array of the same values."""
    import numpy

    return array if isinstance(array, numpy.ndarray) else array.detach().cpu().numpy()
