"""Readers of labelled images: scikit-learn's digits, arrays, folders of pictures, and columns."""

import difflib
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.core.errors import InputError, near_path
from attar.core.provenance import shadowed
from attar.images.data import naming
from attar.images.data.columns import field_name
from attar.images.data.dataset import from_dataset, from_disk, from_hub, is_dataset
from attar.images.data.folders import Inside, from_folder, look_into
from attar.images.data.form import Form
from attar.images.data.parquet import from_parquet, has_images, names_files
from attar.images.data.pixels import InMemory, Loaded, Split, from_numbers

HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:[\w.-]+)?")
"""Names on the hub: `user/name`, or `name` alone. A configuration may follow after a colon."""


def read(data: Any, form: Form) -> Loaded:
    """Read a bundled set, arrays, a data set of Hugging Face, a file or folder, or a data set of the hub by name.

    Raises:
        InputError: There are no such data, or they cannot be read.
    """
    if is_dataset(data):
        return from_dataset(data, form)
    if isinstance(data, str) and not data:
        raise InputError("data has no name; give a name or a path.")
    bundled = isinstance(data, (str, Path)) and str(data) == "digits"
    if isinstance(data, (str, Path)) and not (bundled and (isinstance(data, str) or not data.exists())):
        if Path(data).exists():
            return _from_path(Path(data), form)
        return from_hub(str(data), form, near=check_afar(str(data)))
    if form.size is not None:
        raise InputError("size is for pictures in files only. Scale arrays yourself; digits are 8×8.")
    _check_no_columns("digits and arrays do", form)
    return _digits() if isinstance(data, (str, Path)) else from_arrays(data)


def _from_path(path: Path, form: Form) -> Loaded:
    if path.is_file() and path.suffix.lower() != ".parquet":
        raise InputError(f"{path} is not a parquet file. Give a .parquet file, a folder, or 'digits'.")
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return from_disk(path, form)
    name = field_name(path.resolve().name if path.is_dir() else path.stem)
    if path.is_file():
        return from_parquet(name, path, [path], form)
    inside = look_into(path)
    files, notes = _tables(path, inside, form)
    if files:
        return from_parquet(name, path, files, form, notes)
    _check_no_columns(f"{path} does", form)
    return from_folder(name, path, inside, form, notes)


def _tables(path: Path, inside: Inside, form: Form) -> tuple[list[Path], list[str]]:
    """The parquet files to read, and notes about what is not read. There are none if pictures are read.

    Raises:
        InputError: Parquet files and pictures are both data.
    """
    folders = inside.in_folders
    if not folders:
        return inside.parquet, []
    metadata = [file for file in inside.parquet if file.name.lower() == "metadata.parquet"]
    tables = [file for file in inside.parquet if file not in metadata and has_images(file, form)]
    ignored = [str(file.relative_to(path)) for file in inside.parquet if file not in tables]
    notes = [f"parquet files without images of their own are ignored: {', '.join(ignored[:5])}"] if ignored else []
    if tables and len(folders) > 1 and not names_files(tables[0], form):
        some = ", ".join(sorted(folders)[:5])
        raise InputError(
            f"{path} holds images in {tables[0].relative_to(path)} and pictures in folders ({some}). Give one of them."
        )
    if tables and not names_files(tables[0], form):
        notes.append(f"{len(inside.pictures):,} pictures beside the parquet files are ignored")
    return tables, notes


def check_afar(data: str) -> str:
    """Check that a name that is not a path may be one on the hub; return what else may be meant, as a sentence.

    Raises:
        InputError: It is a typing error.
    """
    if difflib.get_close_matches(data, ["digits"], cutoff=0.8):
        raise InputError(f"unknown data {data!r}; did you mean 'digits'?")
    near = near_path(data)
    guess = f"did you mean {near!r}?" if near else "no such file or folder."
    if not HUB_NAME.fullmatch(data) or data.lower().endswith(".parquet"):
        raise InputError(f"unknown data {data!r}; {guess} Bundled: digits.")
    if near and ("/" in data or not _differ_in_digits(data, near)):
        raise InputError(f"unknown data {data!r}; {guess} A data set of the hub is named user/name.")
    return f"{guess} The hub:" if near else ""


def _differ_in_digits(one: str, other: str) -> bool:
    """Whether names differ in digits only: cifar10 and cifar100 are both right."""
    return re.sub("[0-9]", "", one) == re.sub("[0-9]", "", other)


def _check_no_columns(who: str, form: Form) -> None:
    if form.image or form.label:
        raise InputError(f"image and label are names of columns, but {who} not have columns.")


def _digits() -> Loaded:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = Split(InMemory(pixels[:1297]), labels[:1297]), Split(InMemory(pixels[1297:]), labels[1297:])
    return Loaded("digits", train, test, tuple(map(str, range(10))), shadowed("digits", "digits"))


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
    names = naming.in_order({str(label) for label in raw[0][1]})
    numbers = {name: number for number, name in enumerate(names)}
    splits = []
    for pixels, labels in raw:
        if not {str(label) for label in labels} <= numbers.keys():
            raise InputError("the test labels have a class that the training labels do not have.")
        splits.append(Split(pixels, torch.tensor([numbers[str(label)] for label in labels])))
    return Loaded("arrays", splits[0], splits[1] if len(splits) > 1 else None, tuple(names))


def _array_labels(labels: Any, images: int) -> list[int | str]:
    """The labels as plain numbers or names."""
    if labels is None:
        raise InputError("labels are missing; give one integer or name per image.")
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    named = values.dtype.kind == "U" or (values.dtype.kind == "O" and all(isinstance(one, str) for one in values.flat))
    if not named and values.dtype.kind not in "iu":
        raise InputError("labels are neither integers nor names; give one class per image.")
    if values.shape != (images,):
        raise InputError(f"there are {images} images but labels of shape {tuple(values.shape)}; give one per image.")
    found: list[int | str] = values.tolist()
    return found
