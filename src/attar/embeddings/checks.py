"""Checks of what losses and measures are given: rows of numbers, and settings in their range."""

import math
from typing import Any

from torch import Tensor

from attar.core.checks import Range, shown
from attar.core.errors import InputError

LEAST_TEMPERATURE = 1e-30
"""Smallest temperature: similarities over less are no numbers of single precision."""
LARGEST = 1e30
"""Largest setting, which is a number of single precision too."""


def check_embeddings(z: Any, name: str = "embeddings", width: int | None = None) -> None:
    """Check that embeddings are rows of numbers.

    Args:
        z: What was given.
        name: What it is called in messages.
        width: How many numbers a row must have.

    Raises:
        InputError: They are no tensor `[sample, d]`, or rows are of another length.
    """
    if not isinstance(z, Tensor):
        raise InputError(f"{name} are of type {type(z).__name__}; give a tensor [sample, d].")
    if z.ndim != 2 or z.is_complex():
        raise InputError(f"{name} have shape {tuple(z.shape)} and type {z.dtype}; give real numbers [sample, d].")
    if width is not None and z.shape[1] != width:
        raise InputError(f"{name} have {z.shape[1]} numbers each; give {width}.")


def check_finite(features: Tensor) -> None:
    """Check that the features of all samples are numbers.

    Raises:
        InputError: Those of a sample are not; the first is named.
    """
    if not features.isfinite().all():
        row = int((~features.isfinite().all(dim=1)).nonzero()[0])
        raise InputError(f"the features of sample {row} are not finite.")


def checked_number(name: str, value: Any, *, least: float = 0.0, most: float = math.inf) -> float:
    """A finite number from `least` to `most`, as it is.

    Raises:
        InputError: It is none.
    """
    if isinstance(value, (int, float)) and least <= value <= min(most, LARGEST):
        return value
    right = "above 0" if least == LEAST_TEMPERATURE else str(Range(least, most))
    if isinstance(value, (int, float)) and LARGEST < value <= most:
        right = "finite" if value == math.inf else f"at most {LARGEST:g}"
    raise InputError(f"{name} is {shown(value)}; it must be {right}.")
