"""Read labelled images from wherever they are: scikit-learn's digits, parquet, folders of pictures, arrays."""

import bisect
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attar.core.errors import InputError
from attar.images.pixels import Encoded, InMemory, Pixels, Split, decode, decode_all, is_grey

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
TEST_NAMES = ("test", "validation", "valid", "val")

Loaded = tuple[str, Split, Split | None, tuple[str, ...]]
"""Name, training split, test split if there is one, class names."""


def read(data: str, size: int | None, memory: float) -> Loaded:
    """Read a bundled set by name, or whatever lies at a path.

    Raises:
        InputError: Nothing there, or nothing that can be read.
    """
    if data == "digits":
        return _digits()
    path = Path(data)
    if not path.exists():
        near = f"{data!r}; no such file or folder. Bundled: digits"
        raise InputError(
            f"unknown data {near}." if "igit" not in data else f"unknown data {data!r}; did you mean 'digits'?"
        )
    if path.is_file() and path.suffix != ".parquet":
        raise InputError(f"{path} is no parquet file; give a .parquet file, a folder, or 'digits'.")
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    name = path.resolve().stem.lower().replace("_", "-").replace("cifar-10", "cifar10")
    return _parquet(name, files, size, memory) if files else _folder(name, path, size, memory)


def _digits() -> Loaded:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = Split(InMemory(pixels[:1297]), labels[:1297]), Split(InMemory(pixels[1297:]), labels[1297:])
    return "digits", train, test, tuple(str(digit) for digit in range(10))


def _parquet(name: str, files: list[Path], size: int | None, memory: float) -> Loaded:
    """Hugging Face form: an `image` column of encoded bytes, a `label` column of integers, one file or more a split."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        part = next((test for test in TEST_NAMES if file.name.startswith(test)), "train")
        groups.setdefault("train" if part == "train" else "test", []).append(file)
    if "train" not in groups:
        groups = {"train": files}
    tables = {part: _parquet_rows(paths) for part, paths in groups.items()}
    _, labels, names, _ = tables["train"]
    classes = names or tuple(str(value) for value in sorted(set(labels)))
    numbers = {value: index for index, value in enumerate(range(len(names)) if names else sorted(set(labels)))}
    shape = None
    splits: dict[str, Split] = {}
    for part, (encoded, labels, _, where) in tables.items():
        if not labels:
            raise InputError(f"{groups[part][0]} has no rows.")
        strange = next((row for row, label in enumerate(labels) if label not in numbers), None)
        if strange is not None:
            lack = f"but the file names {len(names)} classes" if names else "a class that the training images lack"
            raise InputError(f"{where(strange)} has label {labels[strange]}, {lack}.")
        shape = shape or _shape_of(encoded, size, where)
        numbered = torch.tensor([numbers[label] for label in labels])
        splits[part] = Split(_hold(encoded, shape, size, memory, where), numbered)
    return name, splits["train"], splits.get("test"), classes


def _parquet_rows(files: list[Path]) -> tuple[list[bytes], list[int], tuple[str, ...] | None, Any]:
    """Encoded images, labels and class names of a split's files, and a function that names a row's place in them."""
    import pyarrow
    from pyarrow import parquet

    encoded: list[bytes] = []
    labels: list[int] = []
    starts: list[int] = []
    names = None
    for file in files:
        starts.append(len(labels))
        try:
            table = parquet.read_table(file)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise InputError(f"{file} is no readable parquet file ({str(error).splitlines()[0]}).") from None
        image = _column(table, ("image", "img", "images"), file)
        label = _column(table, ("label", "labels", "fine_label"), file)
        if not pyarrow.types.is_integer(table.schema.field(label).type):
            raise InputError(f"column {label!r} of {file} holds {table.schema.field(label).type}, not integers.")
        names = names or _class_names(table.schema, label)
        numbers = table.column(label).to_pylist()
        missing = next((row for row, number in enumerate(numbers) if number is None or number < 0), None)
        if missing is not None:
            raise InputError(f"row {missing} of {file} has no label.")
        labels += numbers
        encoded += [_image_bytes(cell, file, row) for row, cell in enumerate(table.column(image).to_pylist())]
    return encoded, labels, names, _row_namer(files, starts)


def _column(table: Any, wanted: Sequence[str], file: Path) -> str:
    for name in wanted:
        if name in table.column_names:
            return name
    raise InputError(f"{file} has no column {wanted[0]!r}; it has {', '.join(table.column_names)}.")


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """ClassLabel names from the Hugging Face note in the schema, if any."""
    note = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = note.get("info", {}).get("features", {}).get(label, {})
    return tuple(feature["names"]) if feature.get("names") else None


def _image_bytes(cell: Any, file: Path, row: int) -> bytes:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if data is None and isinstance(cell, dict) and cell.get("path"):
        beside = file.parent / cell["path"]
        data = beside.read_bytes() if beside.is_file() else None
    if not isinstance(data, bytes):
        raise InputError(f"row {row} of {file} holds no image bytes.")
    return data


def _row_namer(files: list[Path], starts: list[int]) -> Any:
    def where(row: int) -> str:
        file = bisect.bisect_right(starts, row) - 1
        return f"row {row - starts[file]} of {files[file]}"

    return where


def _folder(name: str, path: Path, size: int | None, memory: float) -> Loaded:
    """One folder per class, below `train/` and `test/` (or `val/`) or directly here."""
    top = path / "train" if (path / "train").is_dir() else path
    test = next((path / part for part in TEST_NAMES if (path / part).is_dir()), None) if top != path else None
    classes = tuple(sorted(child.name for child in top.iterdir() if child.is_dir() and _pictures(child)))
    if not classes:
        raise InputError(f"{path} holds no parquet file and no folder of pictures for each class.")
    splits = []
    shape = None
    for part in filter(None, (top, test)):
        files = [file for name in classes for file in _pictures(part / name)]
        labels = [classes.index(name) for name in classes for _ in _pictures(part / name)]
        where = files.__getitem__
        shape = shape or _shape_of(files, size, lambda row, where=where: str(where(row)))
        pixels = _hold(files, shape, size, memory, lambda row, where=where: str(where(row)))
        splits.append(Split(pixels, torch.tensor(labels)))
    return name, splits[0], splits[1] if len(splits) > 1 else None, classes


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_ENDINGS)


def _shape_of(files: Any, size: int | None, where: Any) -> tuple[int, int, int]:
    """The shape of the first image; grey only if the first few all are."""
    grey = all(is_grey(file) for file in files[:16])
    height, width, channels = decode(files[0], grey=grey, size=size, where=lambda: where(0)).shape
    return channels, height, width


def _hold(files: Any, shape: tuple[int, int, int], size: int | None, memory: float, where: Any) -> Pixels:
    if len(files) * math.prod(shape) > memory * 1e9:
        return Encoded(files, shape, size, where)
    return InMemory(decode_all(files, list(range(len(files))), shape, size, where))


def from_arrays(data: Any) -> Loaded:
    """Take `(images, labels)`, or a training and a test pair of them.

    Raises:
        InputError: Shapes, types or values that are no images or no class numbers.
    """
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InputError(f"data is a {type(data).__name__}; give a name, a path, or a pair (images, labels).")
    pairs = data if isinstance(data[0], (tuple, list)) and len(data[0]) == 2 else (data,)
    raw = [(_array_pixels(images), _array_labels(labels, len(images))) for images, labels in pairs]
    if raw[0][0].shape != raw[-1][0].shape:
        raise InputError(
            f"training images have shape {raw[0][0].shape}, test images {raw[-1][0].shape}; give both alike."
        )
    values = raw[0][1].unique()
    splits = []
    for pixels, labels in raw:
        if not torch.isin(labels, values).all():
            raise InputError("the test labels have a class that the training labels lack.")
        splits.append(Split(pixels, torch.searchsorted(values, labels)))
    return "arrays", splits[0], splits[1] if len(splits) > 1 else None, tuple(str(int(value)) for value in values)


def _array_pixels(images: Any) -> InMemory:
    """`[image, height, width]`, `[image, height, width, channel]` or `[image, channel, height, width]`."""
    tensor = torch.as_tensor(np.asarray(images) if not isinstance(images, Tensor) else images)
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(1)
    if len(tensor) == 0:
        raise InputError("there are no images.")
    if tensor.ndim != 4 or not (tensor.shape[1] in (1, 3) or tensor.shape[3] in (1, 3)):
        raise InputError(f"images have shape {tuple(tensor.shape)}; give [image, height, width] with 1 or 3 channels.")
    if tensor.shape[1] not in (1, 3):
        tensor = tensor.permute(0, 3, 1, 2).contiguous()
    if tensor.dtype == torch.uint8:
        return InMemory(tensor)
    if not tensor.is_floating_point():
        raise InputError(f"images are {tensor.dtype}; give uint8, or floats from 0 to 1.")
    if not tensor.isfinite().all():
        row = int(torch.nonzero(~tensor.isfinite().flatten(1).all(dim=1))[0])
        raise InputError(f"image {row} has pixels that are not finite (NaN or infinite).")
    if tensor.min() < 0 or tensor.max() > 1:
        raise InputError(f"float pixels run from {tensor.min():.3g} to {tensor.max():.3g}; give 0 to 1, or uint8.")
    return InMemory(tensor.float())


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
