"""Checkpoints of any method's state: flatten it to tensors and plain values, and restore it.

A state is a dataclass of tensors, modules, optimisers and plain values, which may be nested in lists and dictionaries.
`pack` turns it into named tensors and JSON. `unpack` writes them, in place, into a state that was built again. Fields
made with `rebuilt()` (the real data, compiled functions) are not saved: `build` makes them again.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

Packed = tuple[dict[str, Tensor], dict[str, Any]]


def rebuilt(**kwargs: Any) -> Any:
    """A dataclass field that `build` makes again on resuming, so no checkpoint holds it."""
    return dataclasses.field(metadata={"rebuilt": True}, **kwargs)


def pack(state: Any) -> Packed:
    """Flatten a state to `(tensors, plain)`, both keyed by the path of attribute names. No tensor is copied.

    Raises:
        TypeError: A value that is none of the kinds above; mark its field `rebuilt()` if no run needs it back.
    """
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    _pack(state, "state", tensors, plain)
    return tensors, plain


def unpack(state: Any, packed: Packed) -> None:
    """Restore, in place, a state that was built with the same settings.

    Raises:
        TypeError: The checkpoint holds something that the built state has no place for.
    """
    _unpack(state, "state", *packed)
    lost = {*packed[0], *packed[1]} - {*pack(state)[0], *pack(state)[1]}
    if lost:
        raise TypeError(f"the built state has no place for {min(lost)}: build must make what step fills")


def _children(value: Any) -> dict[str, Any] | None:
    """What lies inside a container, by name; None for a leaf."""
    if isinstance(value, (nn.Module, torch.optim.Optimizer)):
        return {"state_dict": value.state_dict()}
    if dataclasses.is_dataclass(value):
        fields = [field for field in dataclasses.fields(value) if not field.metadata.get("rebuilt")]
        return {field.name: getattr(value, field.name) for field in fields}
    if isinstance(value, dict):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return {str(index): item for index, item in enumerate(value)}
    return None


def _pack(value: Any, path: str, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    children = _children(value)
    if children is not None:
        for name, child in children.items():
            _pack(child, f"{path}/{name}", tensors, plain)
    elif isinstance(value, Tensor):
        tensors[path] = value.detach()
    elif value is None or isinstance(value, (bool, int, float, str)):
        plain[path] = value
    else:
        raise TypeError(f"{path} is a {type(value).__name__}, which no checkpoint can hold; mark it rebuilt()")


def _unpack(value: Any, path: str, tensors: dict[str, Tensor], plain: dict[str, Any]) -> Any:
    """Restore what `path` held; mutable things in place, plain values by return."""
    if isinstance(value, nn.Module):
        value.load_state_dict(_nested(f"{path}/state_dict", tensors, plain))
    elif isinstance(value, torch.optim.Optimizer):
        _load_optimizer(value, _nested(f"{path}/state_dict", tensors, plain))
    elif isinstance(value, Tensor):
        with torch.no_grad():
            value.copy_(tensors[path])
    elif dataclasses.is_dataclass(value):
        for name, child in (_children(value) or {}).items():
            setattr(value, name, _unpack(child, f"{path}/{name}", tensors, plain))
    elif isinstance(value, dict):
        for key in value:
            value[key] = _unpack(value[key], f"{path}/{key}", tensors, plain)
    elif isinstance(value, list):
        value[:] = [_unpack(item, f"{path}/{index}", tensors, plain) for index, item in enumerate(value)]
    elif isinstance(value, tuple):
        return tuple(_unpack(item, f"{path}/{index}", tensors, plain) for index, item in enumerate(value))
    else:
        return plain[path]
    return value


def _nested(path: str, tensors: dict[str, Tensor], plain: dict[str, Any]) -> dict[str, Any]:
    """The state dict below a path, one level of names at a time."""
    tree: dict[str, Any] = {}
    for key, leaf in {**tensors, **plain}.items():
        if key.startswith(f"{path}/"):
            *branches, last = key[len(path) + 1 :].split("/")
            place = tree
            for branch in branches:
                place = place.setdefault(branch, {})
            place[last] = leaf
    return tree


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    fresh = optimizer.state_dict()
    for index, group in enumerate(fresh["param_groups"]):
        values = saved["param_groups"][str(index)]
        for key in values.keys() - {"params"}:
            # Adam's betas are a pair, which the path names have turned into a dictionary.
            group[key] = tuple(values[key].values()) if isinstance(values[key], dict) else values[key]
    fresh["state"] = {int(index): values for index, values in saved.get("state", {}).items()}
    optimizer.load_state_dict(fresh)
