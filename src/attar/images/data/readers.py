"""Readers of labelled images: scikit-learn's digits, arrays, folders of pictures, and columns."""

import difflib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attar.core.errors import InputError
from attar.images.data.columns import (
    TEST_NAMES,
    field_name,
    from_dataset,
    from_disk,
    from_hub,
    from_parquet,
    is_dataset,
)
from attar.images.data.pixels import Form, InMemory, Loaded, Split, from_numbers, hold
from attar.images.data.streaming import Files

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:[\w.-]+)?")
"""Names on the hub: `user/name`, or `name` alone. A configuration may follow after a colon."""


def read(data: Any, form: Form) -> Loaded:
    """Read a bundled set, arrays, a data set of Hugging Face, a file or folder, or a data set of the hub by name.

    Raises:
        InputError: There are no such data, or they cannot be read.
    """
    if is_dataset(data):
        return from_dataset(data, form)
    if isinstance(data, (str, Path)) and str(data) != "digits":
        return _from_path(Path(data), form) if Path(data).exists() else _from_afar(str(data), form)
    if form.size is not None:
        raise InputError("size is for pictures in files only. Scale arrays yourself; digits are 8×8.")
    _check_no_columns("digits and arrays do", form)
    return _digits() if isinstance(data, (str, Path)) else from_arrays(data)


def _from_path(path: Path, form: Form) -> Loaded:
    if path.is_file() and path.suffix != ".parquet":
        raise InputError(f"{path} is not a parquet file. Give a .parquet file, a folder, or 'digits'.")
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return from_disk(path, form)
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    name = field_name(path.resolve().name if path.is_dir() else path.stem)
    if files:
        return from_parquet(name, files, form)
    _check_no_columns(f"{path} does", form)
    return _folder(name, path, form)


def _from_afar(data: str, form: Form) -> Loaded:
    """Read a name that is not a path: a typing error, or a name on the hub."""
    if difflib.get_close_matches(data, ["digits"], cutoff=0.8):
        raise InputError(f"unknown data {data!r}; did you mean 'digits'?")
    if not HUB_NAME.fullmatch(data) or data.endswith(".parquet"):
        raise InputError(f"unknown data {data!r}; no such file or folder. Bundled: digits.")
    return from_hub(data, form)


def _check_no_columns(who: str, form: Form) -> None:
    if form.image or form.label:
        raise InputError(f"image and label are names of columns, but {who} not have columns.")


def _digits() -> Loaded:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = Split(InMemory(pixels[:1297]), labels[:1297]), Split(InMemory(pixels[1297:]), labels[1297:])
    return "digits", train, test, tuple(str(digit) for digit in range(10))


def _folder(name: str, path: Path, form: Form) -> Loaded:
    """Read one folder per class, below `train/` and `test/` (or `val/`) or directly in this folder."""
    top = path / "train" if (path / "train").is_dir() else path
    test = next((path / part for part in TEST_NAMES if (path / part).is_dir()), None) if top != path else None
    found = _pictures_by_class(top)
    if not found:
        raise InputError(f"{path} holds neither a parquet file nor a folder of pictures for each class.")
    tested = _pictures_by_class(test) if test else {}
    if test:
        _check_test_classes(test, tested, top, found)
    numbers = {label: number for number, label in enumerate(found)}
    train = _read_pictures(top, found, numbers, form)
    return name, train, _read_pictures(test, tested, numbers, form, train) if test else None, tuple(found)


def _check_test_classes(test: Path, tested: dict[str, list[str]], top: Path, found: dict[str, list[str]]) -> None:
    """Raise an `InputError` for test classes without training images. The source reports those without test images."""
    strange = ", ".join(repr(label) for label in tested if label not in found)
    if strange or not tested:
        what = f"pictures of {strange}, but {top} does not" if strange else "no folders of pictures"
        raise InputError(f"{test} has {what}. Both need folders of the same names.")


def _read_pictures(
    folder: Path, found: dict[str, list[str]], numbers: dict[str, int], form: Form, like: Split | None = None
) -> Split:
    pictures = Files(folder, [name for names in found.values() for name in names])
    labels = [numbers[label] for label, names in found.items() for _ in names]
    return Split(hold(pictures, form, like.pixels.shape if like else None), torch.tensor(labels))


def _pictures_by_class(folder: Path) -> dict[str, list[str]]:
    """The picture files of each class, as paths relative to the folder. Hidden files and folders are ignored."""
    found = {}
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            names = sorted(_pictures(child), key=lambda path: path.split("/"))
            if names:
                found[child.name] = [f"{child.name}/{name}" for name in names]
    return found


def _pictures(folder: Path) -> list[str]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = Path(place).relative_to(folder).as_posix()
        pictures = [name for name in files if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")]
        found += pictures if here == "." else [f"{here}/{name}" for name in pictures]
    return found


def from_arrays(data: Any) -> Loaded:
    """Read `(images, labels)`, or a training and a test pair of them.

    Raises:
        InputError: Shapes, types or values are not those of images or class numbers.
    """
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InputError(f"data is a {type(data).__name__}; give a name, a path, or a pair (images, labels).")
    pairs = data if isinstance(data[0], (tuple, list)) and len(data[0]) == 2 else (data,)
    raw = [(InMemory(from_numbers(images)), _array_labels(labels, len(images))) for images, labels in pairs]
    if raw[0][0].shape != raw[-1][0].shape:
        raise InputError(
            f"training images have shape {raw[0][0].shape}, test images {raw[-1][0].shape}; give the same shape."
        )
    values = raw[0][1].unique()
    splits = []
    for pixels, labels in raw:
        if not torch.isin(labels, values).all():
            raise InputError("the test labels have a class that the training labels do not have.")
        splits.append(Split(pixels, torch.searchsorted(values, labels)))
    return "arrays", splits[0], splits[1] if len(splits) > 1 else None, tuple(str(int(value)) for value in values)


def _array_labels(labels: Any, images: int) -> Int[Tensor, " image"]:
    if labels is None:
        raise InputError("labels are missing; give one integer per image.")
    tensor = (
        torch.as_tensor(np.asarray(labels) if not isinstance(labels, Tensor) else labels) if _numeric(labels) else None
    )
    if tensor is None or tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise InputError("labels are not integers; give one class number per image.")
    if tensor.shape != (images,):
        raise InputError(f"there are {images} images but labels of shape {tuple(tensor.shape)}; give one per image.")
    return tensor.long()


def _numeric(labels: Any) -> bool:
    return isinstance(labels, Tensor) or np.asarray(labels).dtype.kind in "iufb"
