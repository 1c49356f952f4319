"""Read and write a mixture as safetensors, or as JSON that a person can write.

The public methods are those of `GaussianMixture`.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attar.core import store
from attar.core.errors import InputError, unknown
from attar.mixtures.parameters import COVARIANCES, Parameters

ENDINGS = (".safetensors", ".json")
NAMES = ("weights", "means", "covariances")


def write_parameters(path: Path, tensors: dict[str, Tensor], covariance_type: str) -> None:
    """Write a mixture's tensors in the format that the ending of the file's name selects.

    Raises:
        InputError: The ending is neither .safetensors nor .json.
    """
    _check_ending(path)
    if path.suffix == ".json":
        values: dict[str, Any] = {name: tensor.detach().tolist() for name, tensor in tensors.items()}
        store.write_json(path, {"covariance_type": covariance_type, **values})
    else:
        store.write_tensors(path, tensors, {"covariance_type": covariance_type})


def read_parameters(path: Path) -> Parameters:
    """Read a file that `write_parameters` or another program wrote in the same form. The numbers are not checked.

    Raises:
        InputError: The file is missing, damaged or a pickle, or it does not hold a mixture.
    """
    _check_ending(path)
    values, kind = _read_json(path) if path.suffix == ".json" else _read_safetensors(path)
    missing = [name for name in NAMES if name not in values]
    if missing:
        raise InputError(f"{path} has no {', '.join(missing)}; a mixture has {', '.join(NAMES)} and covariance_type.")
    if not isinstance(kind, str) or kind not in COVARIANCES:
        raise unknown(f"covariance_type of {path}", str(kind), COVARIANCES)
    return Parameters(values["weights"], values["means"], values["covariances"], kind)


def _check_ending(path: Path) -> None:
    if path.suffix not in ENDINGS:
        raise InputError(f"{path} must end in {' or '.join(ENDINGS)}.")


def _read_json(path: Path) -> tuple[dict[str, Any], Any]:
    values = store.read_json(path)
    if not isinstance(values, dict):
        raise InputError(
            f"{path} holds no mixture; it must have weights, means, covariances and covariance_type by name."
        )
    return values, values.get("covariance_type", "full")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            ours = "attar" in facts and "covariance_type" in (json.loads(facts["attar"]).get("plain") or {})
            tensors = {} if ours else {name: file.get_tensor(name) for name in NAMES if name in file.keys()}  # noqa: SIM118
    except (SafetensorError, AttributeError, OSError, RecursionError, TypeError, ValueError):
        ours, facts, tensors = True, {}, {}  # the store says what is wrong with it
    if ours:
        tensors, plain = store.read_tensors(path)
        return tensors, plain.get("covariance_type")
    for name, tensor in tensors.items():
        if not torch.is_floating_point(tensor):
            raise InputError(f"{path}: {name} has the type {tensor.dtype}; it must be a floating-point type.")
    return tensors, facts.get("covariance_type", "full")
