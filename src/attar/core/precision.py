"""The precision of losses: single or better, also under autocast and for the half-precision outputs of a network."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Types of parameters and of multiplications by the words of settings."""


def at_least_float32(tensor: Tensor) -> Tensor:
    """A tensor in single precision, or in double if it is so already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """A context in which autocast is off on the tensor's device: exp(1 / 0.07) is beyond 16 bits."""
    return torch.autocast(tensor.device.type, enabled=False)


def widest(device: torch.device) -> torch.dtype:
    """The most precise type that a device has: float64, and float32 on the GPUs of Macs."""
    return torch.float32 if device.type == "mps" else torch.float64
