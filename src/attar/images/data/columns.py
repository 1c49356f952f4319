"""Labelled images in columns: parquet files and Hugging Face data sets.

Images are encoded (bytes or names of files) or numbers. Labels are names, or integers with or without names.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attar.core.errors import InputError
from attar.images.data.pixels import (
    Batch,
    Form,
    InMemory,
    Loaded,
    Pixels,
    Split,
    from_numbers,
    hold,
    portions,
    shape_of,
)
from attar.images.data.streaming import Cells, Rows, batches, mapped

IMAGES = ("image", "img", "images")
LABELS = ("label", "labels", "fine_label")
TEST_NAMES = ("test", "validation", "valid", "val")

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Part:
    """One split. Its labels have been read, its pixels have not."""

    name: str
    labels: list[Any]
    """Labels as integers or names. A missing label is None or negative."""
    names: tuple[str, ...] | None
    """Class names of the integers, if they are known."""
    where: Callable[[int], str]
    pixels: Callable[[Shape | None], Pixels]
    """Function that reads the pixels. Its argument is the expected shape; None stands for that of the first image."""


def assemble(name: str, train: Part, test: Part | None) -> Loaded:
    """Number the classes and read the pixels.

    Raises:
        InputError: A split has no rows, a row has no label, or the training images do not have a label.
    """
    _check_labels(train)
    values = range(len(train.names)) if train.names else sorted(set(train.labels))
    numbers = {value: number for number, value in enumerate(values)}
    labels = _numbered(train, numbers, f"but the file names {len(numbers)} classes")
    whole = Split(train.pixels(None), labels)
    tested = None
    if test is not None:
        _check_labels(test)
        if test.names and train.names and test.names != train.names:
            raise InputError(f"{test.name} numbers its classes in another way than {train.name}.")
        labels = _numbered(test, numbers, "a class that the training images do not have")
        tested = Split(test.pixels(whole.pixels.shape), labels)
    return name, whole, tested, train.names or tuple(map(str, values))


def _check_labels(part: Part) -> None:
    if not part.labels:
        raise InputError(f"{part.name} has no rows.")
    missing = next((row for row, label in enumerate(part.labels) if _missing(label)), None)
    if missing is not None:
        raise InputError(f"{part.where(missing)} has no label.")


def _numbered(part: Part, numbers: dict[Any, int], lack: str) -> Int[Tensor, " row"]:
    strange = next((row for row, label in enumerate(part.labels) if label not in numbers), None)
    if strange is not None:
        raise InputError(f"{part.where(strange)} has label {part.labels[strange]}, {lack}.")
    return torch.tensor([numbers[label] for label in part.labels])


def _missing(label: Any) -> bool:
    return label is None or (isinstance(label, int) and label < 0)


def _column(there: Sequence[str], usual: Sequence[str], asked: str | None, place: str) -> str:
    """The name of a column: the given one, or the first usual one."""
    for name in (asked,) if asked else usual:
        if name in there:
            return name
    raise InputError(f"{place} has no column {asked or usual[0]!r}. Its columns: {', '.join(there)}.")


def _label_values(column: Any, name: str, place: str) -> list[Any]:
    """The labels of a pyarrow column."""
    from pyarrow import types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if not (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
        raise InputError(f"column {name!r} of {place} holds {kind}, not integers or names.")
    values: list[Any] = column.to_pylist()
    return values


# Parquet.


def from_parquet(name: str, files: list[Path], form: Form) -> Loaded:
    """Read parquet files in Hugging Face form: a column of encoded images, one of labels, one or more files per split.

    Raises:
        InputError: Files cannot be read, or have another form.
    """
    tests = [file for file in files if file.name.startswith(TEST_NAMES)]
    train = [file for file in files if file not in tests]
    if not train:
        train, tests = files, []
    return assemble(name, _parquet_part(train, form), _parquet_part(tests, form) if tests else None)


def _parquet_part(files: list[Path], form: Form) -> Part:
    from pyarrow import parquet

    labels: list[Any] = []
    starts: list[int] = []
    names, column, kind = None, "", None
    for file in files:
        with _readable(file):
            schema = parquet.read_schema(file)
        column = _column(schema.names, IMAGES, form.image, str(file))
        kind = kind or schema.field(column).type
        if schema.field(column).type != kind:
            found = schema.field(column).type
            raise InputError(f"column {column!r} of {file} holds {found}, but in {files[0]} it holds {kind}.")
        label = _column(schema.names, LABELS, form.label, str(file))
        with _readable(file):
            values = parquet.read_table(file, columns=[label]).column(0)
        names = names or _class_names(schema, label)
        starts.append(len(labels))
        labels += _label_values(values, label, str(file))

    def pixels(like: Shape | None) -> Pixels:
        shape = like or shape_of(_head(files, column), form)
        cells = _images(files, column, in_memory=form.holds(len(labels), shape))
        return hold(Cells(cells, column, files, starts), form, like)

    return Part(str(files[0]), labels, names, Cells(None, column, files, starts).where, pixels)


def _head(files: list[Path], column: str) -> Cells:
    """The first images, read without the other rows."""
    import pyarrow

    for file in files:
        with _readable(file):
            for batch in batches(file, column):
                return Cells(pyarrow.chunked_array([batch.column(0)]), column, [file], [0])
    raise AssertionError("files without rows were refused with their labels")


def _images(files: list[Path], column: str, *, in_memory: bool) -> Any:
    """The column of encoded images, as a pyarrow.ChunkedArray in memory or memory-mapped."""
    import pyarrow
    from pyarrow import parquet

    if not in_memory:
        return mapped(files, column)
    tables = []
    for file in files:
        with _readable(file):
            tables.append(parquet.read_table(file, columns=[column]))
    return pyarrow.concat_tables(tables).column(0)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file} is not a readable parquet file ({str(error).splitlines()[0]}).") from None


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """The ClassLabel names from the Hugging Face metadata in the schema, if there are any."""
    note = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = note.get("info", {}).get("features", {}).get(label, {})
    return tuple(feature["names"]) if feature.get("names") else None


# Hugging Face data sets.


def is_dataset(data: Any) -> bool:
    """Whether this is a data set of the `datasets` library, which is not imported for this."""
    library = sys.modules.get("datasets")
    kinds = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
    return library is not None and isinstance(data, tuple(getattr(library, kind) for kind in kinds))


def from_hub(text: str, form: Form) -> Loaded:
    """Read a data set of the hub, `user/name` or `user/name:configuration`. It is stored in the cache of `datasets`.

    Raises:
        InputError: There is no such data set, the hub cannot be reached, or the data set has another form.
    """
    import datasets

    name, _, configuration = text.partition(":")
    try:
        data = datasets.load_dataset(name, configuration or None)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"unknown data {text!r}: no file or folder here, and from the hub: {reason}") from None
    return from_dataset(data, form, name)


def from_disk(path: Path, form: Form) -> Loaded:
    """Read a folder that `save_to_disk` wrote.

    Raises:
        InputError: The folder cannot be read, or the data set has another form.
    """
    import datasets

    try:
        data = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a readable data set ({type(error).__name__}).") from None
    return from_dataset(data, form, path.resolve().name)


def from_dataset(data: Any, form: Form, name: str = "") -> Loaded:
    """Read a `datasets.Dataset`, or a `DatasetDict` with a split named train and possibly a test split.

    The test split is the first of test, validation, valid and val that has labels.

    Raises:
        InputError: The data set is streamed, splits have other names, or columns do not hold images or labels.
    """
    import datasets

    if isinstance(data, (datasets.IterableDataset, datasets.IterableDatasetDict)):
        kind = type(data).__name__
        raise InputError(
            f"data is an {kind}, from which images cannot be drawn at random. Load it without streaming=True; "
            "attar leaves it on disk and decodes it batch by batch."
        )
    splits = dict(data) if isinstance(data, datasets.DatasetDict) else {"train": data}
    if len(splits) == 1:
        splits = {"train": next(iter(splits.values()))}
    if "train" not in splits:
        raise InputError(f"{name or 'the data'} has no split named train. Its splits: {', '.join(splits)}.")
    name = name or splits["train"].info.dataset_name or "dataset"
    kinds = [kind for kind in ("train", *TEST_NAMES) if kind in splits]
    train, *tests = (_dataset_part(splits[kind], f"{name}, {kind}", form) for kind in kinds)
    test = next((part for part in tests if not all(map(_missing, part.labels))), None)
    return assemble(field_name(name), train, test)


def _dataset_part(dataset: Any, name: str, form: Form) -> Part:
    image = _column(dataset.column_names, IMAGES, form.image, name)
    label = _column(dataset.column_names, LABELS, form.label, name)
    labels = _label_values(dataset.select_columns([label]).with_format("arrow")[:].column(0), label, name)
    names = getattr(dataset.features[label], "names", None)
    images = dataset.select_columns([image])
    pictures = Rows(images.with_format("arrow"), name)

    def pixels(like: Shape | None) -> Pixels:
        if _holds_numbers(dataset, image, name):
            return _hold_numbers(images.with_format("numpy"), image, name, form, like)
        return hold(pictures, form, like)

    return Part(name, labels, tuple(names) if names else None, pictures.where, pixels)


def _holds_numbers(dataset: Any, image: str, name: str) -> bool:
    """Whether a column holds images as numbers instead of encoded bytes."""
    import pyarrow
    from pyarrow import types

    kind = dataset.features.arrow_schema.field(image).type
    if types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        return False
    if isinstance(kind, pyarrow.ExtensionType) or types.is_nested(kind):
        return True
    raise InputError(f"column {image!r} of {name} holds {kind}, not images.")


def _hold_numbers(dataset: Any, column: str, name: str, form: Form, like: Shape | None) -> Pixels:
    if form.size is not None:
        raise InputError(f"size is for encoded pictures only, but {name} holds numbers. Scale them yourself.")
    rows = torch.arange(len(dataset))
    _, channels, height, width = _numbers(dataset, column, [0], name).shape
    images = Numbers(dataset, column, rows, like or (channels, height, width), name)
    if not form.holds(len(rows), images.shape):
        return images
    return InMemory(torch.cat([images[part] for part in portions(rows, images.shape)]))


@dataclass(frozen=True)
class Numbers:
    """Images that a data set holds as numbers, read each time they are drawn, for sets above the memory budget."""

    dataset: Any
    """Data set in NumPy format."""
    column: str
    rows: Int[Tensor, " image"]
    """Rows of the data set that hold these images."""
    shape: Shape
    name: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Int[Tensor, " batch"]) -> Batch:
        images = _numbers(self.dataset, self.column, self.rows[rows].tolist(), self.name)
        if tuple(images.shape[1:]) != self.shape:
            raise InputError(f"images of {self.name} differ in size. Scale them to one size yourself.")
        return images

    def select(self, rows: Int[Tensor, " row"]) -> "Numbers":
        """The images of these rows."""
        return replace(self, rows=self.rows[rows])

    def content(self) -> Iterator[bytes]:
        """Yield the pixels."""
        for rows in portions(torch.arange(len(self)), self.shape):
            yield self[rows].contiguous().numpy().tobytes()


def _numbers(dataset: Any, column: str, rows: list[int], name: str) -> Batch:
    """The pixels of these rows. Integers of any width become bytes if they fit."""
    values = np.asarray(dataset[rows][column])
    if values.dtype == object:
        raise InputError(f"images of {name} differ in size. Scale them to one size yourself.")
    if values.dtype.kind in "iu":
        if values.min() < 0 or values.max() > 255:
            raise InputError(f"pixels of {name} run from {values.min()} to {values.max()}; give 0 to 255.")
        values = values.astype(np.uint8)
    if not np.isfinite(values).all():
        row = rows[int(np.flatnonzero(~np.isfinite(values).reshape(len(rows), -1).all(axis=1))[0])]
        raise InputError(f"row {row} of {name} has pixels that are not finite (NaN or infinite).")
    return from_numbers(values)


def field_name(text: str) -> str:
    """The usual name in papers of a data set with this file, folder or hub name."""
    name = text.rsplit("/", 1)[-1].lower().replace("_", "-")
    return name.replace("cifar-10", "cifar10")
