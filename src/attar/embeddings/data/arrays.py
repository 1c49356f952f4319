"""Arrays: images or rows of numbers, with one label, several labels, or none."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.core.errors import InputError, shortened
from attar.embeddings.data.labels import check_entries, finished
from attar.embeddings.data.raw import RawSamples
from attar.embeddings.data.tables import check_sizes
from attar.embeddings.sources import Features, Part, check_finite_rows
from attar.images.data.naming import in_order
from attar.images.data.pixels import InMemory, from_numbers

FORM = "a pair (samples, labels), or two such pairs for training and testing; labels may be None"


def is_array(data: Any) -> bool:
    """Whether something is an array or a tensor."""
    return isinstance(data, (Tensor, np.ndarray))


def from_arrays(data: Any) -> RawSamples:
    """Read samples `[sample, feature]`, `[sample, height, width]` or with channels, and labels of them.

    Args:
        data: The samples alone, `(samples, labels)`, or a training and a test pair. Labels are one class number or
            name a sample, a matrix `[sample, class]` of 0 and 1, or None.

    Raises:
        InputError: Samples or labels are of another form, or of different numbers.
    """
    if is_array(data):
        data = (data, None)
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InputError(f"data is of type {type(data).__name__}; give a name, a path, or {FORM}.")
    pairs = (
        data if isinstance(data[0], (tuple, list)) and len(data[0]) == 2 and not np.isscalar(data[0][0]) else (data,)
    )
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise InputError(f"data has one pair of arrays and something else; give {FORM}.")
    samples = [_samples(pair[0]) for pair in pairs]
    if samples[0].shape != samples[-1].shape:
        raise InputError(
            f"training samples have shape {tuple(samples[0].shape)}, test samples {tuple(samples[-1].shape)}; give the "
            "same shape."
        )
    names, classes, notes = _labels([pair[1] for pair in pairs], list(map(len, samples)))
    parts = [Part(one, labels) for one, labels in zip(samples, names, strict=True)]
    return RawSamples("arrays", classes, parts[0], parts[1] if len(parts) > 1 else None, tuple(notes))


def _samples(values: Any) -> InMemory | Features:
    array = _array(values, "samples")
    if array.ndim != 2:
        return InMemory(from_numbers(values if isinstance(values, Tensor) else array))
    if array.dtype.kind not in "biuf":
        raise InputError(f"samples are {array.dtype}; give numbers.")
    if not array.size:
        raise InputError(f"samples have shape {array.shape}; give at least one row and one column.")
    rows, names = array.astype(np.float64), [str(number) for number in range(array.shape[1])]
    check_finite_rows(torch.from_numpy(rows), "the samples", names)
    check_sizes(rows, "the samples", names)
    return Features(torch.from_numpy(rows.astype(np.float32)))


def _array(values: Any, what: str) -> np.ndarray:
    try:
        return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except (ValueError, TypeError):
        raise InputError(f"{what} have rows of different lengths; give an array.") from None


def _labels(given: Sequence[Any], counts: Sequence[int]) -> tuple[list[Tensor | None], tuple[str, ...], list[str]]:
    """The labels of each part, the names of the classes, and notes."""
    if all(one is None for one in given):
        return [None] * len(given), (), []
    if any(one is None for one in given):
        raise InputError("one of two parts has no labels; give labels of both, or of none.")
    arrays = [_array(one, "labels") for one in given]
    for array, count in zip(arrays, counts, strict=True):
        if array.ndim not in (1, 2) or len(array) != count:
            raise InputError(
                f"there are {count} samples but labels of shape {array.shape}; give [{count}], or [{count}, classes] "
                "of 0 and 1."
            )
    if len({array.shape[1:] for array in arrays}) > 1:
        raise InputError(f"training labels have shape {arrays[0].shape}, test labels {arrays[1].shape}.")
    if arrays[0].ndim == 2:
        matrices = [_several(array) for array in arrays]
        names = [str(number) for number in range(arrays[0].shape[1])]
        found, classes, notes = finished(dict(zip(("train", "test"), matrices, strict=False)), names, "the arrays")
        return list(found.values()), classes, notes
    values = [_one(array) for array in arrays]
    classes = tuple(in_order(map(str, values[0])))
    codes = {name: number for number, name in enumerate(classes)}
    strange = next((one for part in values for one in part if str(one) not in codes), None)
    if strange is not None:
        raise InputError(f"a test sample has label {strange!r}, which no training sample has.")
    return [torch.tensor([codes[str(one)] for one in part]) for part in values], classes, []


def _several(array: np.ndarray) -> Tensor:
    check_entries(len(array), array.shape[1], "the array")
    if array.dtype.kind not in "biuf" or not array.shape[1]:
        raise InputError(f"labels are {array.dtype} of shape {array.shape}; give a matrix of 0 and 1.")
    bad = np.argwhere((array != 0) & (array != 1))
    if len(bad):
        row, column = map(int, bad[0])
        raise InputError(f"label {column} of sample {row} is {array[row, column]}; give 0 or 1.")
    return torch.from_numpy(array != 0)


def _one(array: np.ndarray) -> list[int | str]:
    values: list[Any] = array.tolist()
    for row, value in enumerate(values):
        if isinstance(value, float) and value.is_integer():
            value = values[row] = int(value)
        if isinstance(value, str) and value:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            told = shortened(repr(value))
            raise InputError(f"the label of sample {row} is {told}; give class numbers from 0 on, or names.")
    return values
