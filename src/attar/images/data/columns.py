"""Labelled images in columns or folders: the parts of a set, the numbers of its classes, and columns by name.

Images are encoded (bytes or names of files) or numbers. Labels are names, or integers with or without names.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attar.core.errors import InputError
from attar.images.data import naming
from attar.images.data.form import Form
from attar.images.data.holding import Held, Wanted
from attar.images.data.pixels import (
    BadPictures,
    Batch,
    InMemory,
    Loaded,
    Shape,
    Split,
    first_of,
    from_numbers,
    portions,
)

IMAGES = ("image", "img", "images")
LABELS = ("label", "labels", "fine_label")
OTHER_LABELS = ("target", "class", "y")
"""Names of a column of labels that are taken if there is only one of them."""


class NoLabels(InputError):  # noqa: N818
    """A split has no column of labels."""


@dataclass(frozen=True)
class Part:
    """One split. Its labels have been read, its pixels have not."""

    name: str
    labels: list[Any]
    """Labels as integers or names. A missing label is None or negative."""
    names: tuple[str, ...] | None
    """Class names of the integers, if they are known."""
    where: Callable[[int], str]
    pixels: Callable[[Wanted], Held]
    """Function that reads the pixels."""
    grey: Callable[[], bool] = lambda: False
    """Function that tells whether all images have one channel."""


def assemble(name: str, parts: Mapping[str, Part], notes: Sequence[str] = ()) -> Loaded:
    """Choose the splits, number the classes and read the pixels.

    Args:
        name: The name of the set.
        parts: What there is of each split; training images at least.
        notes: What was left out or decided so far.

    Raises:
        InputError: A split has no rows, a row has no label, or the training images do not have a label.
    """
    train, test, more = naming.chosen(parts, labelled=_is_labelled, images=lambda part: len(part.labels))
    _check_labels(train)
    test = _by_name(test, train)
    numbers, classes, absent = _classes(train)
    labels = _numbered(train, numbers, f"but the file names {len(train.names or ())} classes")
    tested = None
    if test is not None:
        _check_labels(test)
        if test.names and train.names and test.names != train.names:
            raise InputError(f"{test.name} numbers its classes in another way than {train.name}.")
        tested = _numbered(test, numbers, "a class that the training images do not have")
    held, held_test = read_pixels(train, test)
    splits = _split(held, labels), None if held_test is None or tested is None else _split(held_test, tested)
    left = [left_out(part, one) for part, one in ((train, held), (test, held_test)) if part and one and one.bad]
    return Loaded(name, *splits, classes, (*notes, *more, *absent, *left))


def _is_labelled(part: Part) -> bool:
    return not all(map(_missing, part.labels))


def _classes(train: Part) -> tuple[dict[str, int], tuple[str, ...], list[str]]:
    """The numbers of the labels, the names of the classes that have training images, and a note about the others."""
    values = set(map(str, train.labels))
    if not train.names:
        ordered = naming.in_order(values)
        return {value: number for number, value in enumerate(ordered)}, tuple(ordered), []
    present = [number for number, name in enumerate(train.names) if {str(number), name} & values]
    classes = tuple(train.names[number] for number in present)
    numbers = {str(number): place for place, number in enumerate(present)}
    numbers |= {name: place for place, name in enumerate(classes) if name not in numbers}
    absent = [name for name in train.names if name not in classes]
    note = f"{len(absent):,} of {len(train.names):,} classes have no training images and are left out: "
    return numbers, classes, [note + ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")] if absent else []


def read_pixels(train: Part, test: Part | None) -> tuple[Held, Held | None]:
    """The pixels of both parts. Bad pictures of both are counted together.

    Raises:
        InputError: Pictures cannot be read (`BadPictures`), or differ in size.
    """
    parts = [train] if test is None else [train, test]
    held: list[Held] = []
    bad: list[BadPictures] = []
    grey = all(part.grey() for part in parts)
    for part in parts:
        try:
            known = Wanted(grey, held[0].pixels.shape, held[0].deep) if held else Wanted(grey)
            held.append(part.pixels(known))
        except BadPictures as error:
            bad.append(error)
    if bad:
        lines, others = [line for error in bad for line in error.bad], all(error.others for error in bad)
        raise BadPictures(lines, sum(error.total for error in bad), others=others)
    return held[0], held[1] if test is not None else None


def _split(held: Held, labels: Int[Tensor, " row"]) -> Split:
    return Split(held.pixels, labels if held.kept is None else labels[held.kept])


def left_out(part: Part, held: Held) -> str:
    """A note about the pictures of a part that cannot be read."""
    return f"{len(held.bad):,} of {len(part.labels):,} pictures of {part.name} are left out: {first_of(held.bad)}"


def _check_labels(part: Part) -> None:
    if not part.labels:
        raise InputError(f"{part.name} has no rows.")
    missing = next((row for row, label in enumerate(part.labels) if _missing(label)), None)
    if missing is not None:
        raise InputError(f"{part.where(missing)} has no label.")


def _numbered(part: Part, numbers: dict[str, int], lack: str) -> Int[Tensor, " row"]:
    keys = list(map(str, part.labels))
    strange = next((row for row, key in enumerate(keys) if key not in numbers), None)
    if strange is not None:
        raise InputError(f"{part.where(strange)} has label {part.labels[strange]}, {lack}.")
    return torch.tensor([numbers[key] for key in keys])


def _missing(label: Any) -> bool:
    return label is None or label == "" or (isinstance(label, int) and label < 0)


def _by_name(test: Part | None, train: Part) -> Part | None:
    """Test images whose labels are names if those of the training images are names and not numbers."""
    if test is None or test.names is None or train.names or not all(isinstance(label, str) for label in train.labels):
        return test
    named = [
        test.names[label] if isinstance(label, int) and 0 <= label < len(test.names) else label for label in test.labels
    ]
    return replace(test, labels=named)


def unlabelled(name: str, count: int) -> Part:
    """A split without labels, whose images are not used."""

    def pixels(wanted: Wanted) -> Held:
        raise AssertionError(f"{name} has no labels and is not used")

    return Part(name, [None] * count, None, lambda row: f"row {row} of {name}", pixels)


# Columns.


def image_column(there: Sequence[str], asked: str | None, place: str) -> str:
    """The name of the column of images: the given one, or a usual one.

    Raises:
        InputError: There is none, or there is a choice.
    """
    return _column(there, asked, place, "image")


def label_column(there: Sequence[str], asked: str | None, place: str) -> str:
    """The name of the column of labels: the given one, or a usual one.

    Raises:
        NoLabels: There is none.
        InputError: There is a choice.
    """
    return _column(there, asked, place, "label")


def _column(there: Sequence[str], asked: str | None, place: str, what: Literal["image", "label"]) -> str:
    usual, others = (LABELS, OTHER_LABELS) if what == "label" else (IMAGES, ())
    missing = NoLabels if what == "label" else InputError
    columns = f"Its columns: {', '.join(there)}. Name one with --{what}."
    if asked is not None:
        if asked in there:
            return asked
        raise missing(f"{place} has no column {asked!r}. {columns}")
    choices = [[name] if name in there else [] for name in usual]
    choices += [[column for column in there if column.lower() == name] for name in usual]
    choices += [[column for column in there if column.lower() in others]]
    for found in filter(None, choices):
        if len(found) == 1:
            return found[0]
        raise InputError(f"{place} has several columns of {what}s: {', '.join(found)}. Name one with --{what}.")
    raise missing(f"{place} has no column {usual[0]!r}. {columns}")


def label_values(column: Any, name: str, place: str) -> list[Any]:
    """The labels of a pyarrow column: integers or names. Floats that are whole numbers count as integers.

    Raises:
        InputError: They are of another type.
    """
    from pyarrow import types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    values: list[Any] = []
    if types.is_null(kind):
        return column.to_pylist()
    if types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind):
        values = column.to_pylist()
        return [str(value) if isinstance(value, bool) else value for value in values]
    if types.is_floating(kind):
        values = [None if value != value else value for value in column.to_pylist()]
        if all(value is None or value == value // 1 for value in values):
            return [None if value is None else int(value) for value in values]
    raise InputError(f"column {name!r} of {place} holds {kind}, not integers or names. Name another with --label.")


# Images as numbers.


def hold_numbers(dataset: Any, column: str, name: str, form: Form, like: Shape | None) -> Held:
    """Hold images that a data set has as numbers.

    Args:
        dataset: A datasets.Dataset in NumPy format.
        column: The column of the images.
        name: The name of the data set, for messages.
        form: The budget.
        like: The expected shape. Default: that of the first image.

    Raises:
        InputError: Images differ in size, or numbers are not pixels.
    """
    if form.size is not None:
        raise InputError(f"size is for encoded pictures only, but {name} holds numbers. Scale them yourself.")
    rows = torch.arange(len(dataset))
    _, channels, height, width = _numbers(dataset, column, [0], name).shape
    images = Numbers(dataset, column, rows, like or (channels, height, width), name)
    if not form.holds(len(rows), images.shape):
        return Held(images)
    return Held(InMemory(torch.cat([images[part] for part in portions(rows, images.shape)])))


def holds_numbers(kind: Any, column: str, name: str) -> bool:
    """Whether a column of this Arrow type holds images as numbers instead of encoded bytes or names of files.

    Raises:
        InputError: It holds neither.
    """
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    encoded = (types.is_struct, types.is_binary, types.is_large_binary, types.is_string, types.is_large_string)
    if any(is_one(kind) for is_one in encoded):
        return False
    if isinstance(kind, pyarrow.BaseExtensionType) or types.is_nested(kind):
        return True
    raise InputError(f"column {column!r} of {name} holds {kind}, not images. Name another with --image.")


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
    if values.dtype == object or not values.size:
        raise InputError(f"images of {name} differ in size, or some have no pixels. Scale them to one size yourself.")
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
