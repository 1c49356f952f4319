"""Tensors brought to a device: many small ones travel in one copy.

On a GPU each copy costs about ten microseconds whatever it weighs, and waits for what is queued unless its memory is
pinned. So a step draws all its numbers on the CPU, from generators of the run, and sends them together.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

ALIGNED = 16
"""Bytes at whose multiples each tensor begins, so that it can be viewed in its own type."""


def sent(things: T, device: torch.device) -> T:
    """The same things with every tensor on a device. To a CUDA device those of the CPU travel in one pinned copy.

    What arrives together shares memory, so it must not be changed in place.

    Args:
        things: Tensors without gradients, in tuples, lists, dictionaries and dataclasses of any depth. All else stays.
        device: The device. On the CPU the things themselves are returned.
    """
    if device.type == "cpu":
        return things
    here = [tensor for tensor in _tensors(things) if tensor.device.type == "cpu"]
    if not here:
        return things
    there = _packed(here, device) if device.type == "cuda" else [tensor.to(device) for tensor in here]
    arrived = iter(there)
    return _changed(things, lambda tensor: next(arrived) if tensor.device.type == "cpu" else tensor)


def _packed(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
    """Views of one tensor of bytes that was copied without waiting."""
    if len(tensors) == 1:
        return [tensors[0].contiguous().pin_memory().to(device, non_blocking=True)]
    pieces, places, size = [], [], 0
    for tensor in tensors:
        piece = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        padded = -(-len(piece) // ALIGNED) * ALIGNED
        pieces += [piece, piece.new_zeros(padded - len(piece))]
        places.append((size, size + len(piece)))
        size += padded
    there = torch.cat(pieces).pin_memory().to(device, non_blocking=True)
    return [
        there[first:last].view(tensor.dtype).view(tensor.shape)
        for tensor, (first, last) in zip(tensors, places, strict=True)
    ]


def _tensors(thing: Any) -> Iterator[Tensor]:
    if isinstance(thing, Tensor):
        yield thing
    else:
        for inner in _inside(thing):
            yield from _tensors(inner)


def _inside(thing: Any) -> list[Any]:
    if isinstance(thing, (list, tuple)):
        return list(thing)
    if isinstance(thing, dict):
        return list(thing.values())
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return [getattr(thing, field.name) for field in dataclasses.fields(thing)]
    return []


def _changed(thing: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same with other tensors, met in the order of `_tensors`."""
    if isinstance(thing, Tensor):
        return change(thing)
    if isinstance(thing, (list, tuple)):
        return type(thing)(_changed(inner, change) for inner in thing)
    if isinstance(thing, dict):
        return {name: _changed(inner, change) for name, inner in thing.items()}
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        fields = dataclasses.fields(thing)
        return dataclasses.replace(
            thing, **{field.name: _changed(getattr(thing, field.name), change) for field in fields}
        )
    return thing
