"""Parquet files in Hugging Face form: a column of images, one of labels, one or more files per split."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from attar.core.errors import InputError
from attar.images.data import naming
from attar.images.data.columns import (
    NoLabels,
    Part,
    assemble,
    hold_numbers,
    holds_numbers,
    image_column,
    label_column,
    label_values,
    unlabelled,
)
from attar.images.data.form import Form
from attar.images.data.holding import Held, Wanted, all_grey, hold, shape_of
from attar.images.data.pixels import BadPictures, Loaded
from attar.images.data.streaming import Cells, batches, mapped


def from_parquet(name: str, path: Path, files: Sequence[Path], form: Form, notes: Sequence[str] = ()) -> Loaded:
    """Read parquet files.

    Args:
        name: The name of the set.
        path: The folder or file that was given. Names of splits count below it.
        files: The files.
        form: Columns, budget, and how pictures are decoded.
        notes: What was left out or decided so far.

    Raises:
        InputError: Files cannot be read, have another form, or do not show which images are for training.
    """
    notes = list(notes)
    if path.is_file():
        return assemble(name, {"train": _part(list(files), path.parent, form, notes)}, notes)
    groups = naming.files_by_split([file.relative_to(path) for file in files], str(path))
    naming.check_training(groups, str(path))
    if "train" in groups:
        notes += naming.left_out(groups.get(naming.NONE, ()))
        notes += [note for split in naming.SPLITS if split in groups for note in _folders(split, groups[split])]
        splits = {split: groups[split] for split in naming.SPLITS if split in groups}
    else:
        splits = {"train": groups[naming.NONE]}
        seeming = naming.resembling(file.stem for file in groups[naming.NONE])
        if "train" in seeming and len(seeming) > 1:
            raise InputError(
                f"the parquet files of {path} may be splits ({naming.few(groups[naming.NONE])}), but no word for a "
                f"split stands by itself in their names. {naming.ADVICE} Rename the files."
            )
        if len(files) > 1:
            notes.append(f"no name of the {len(files):,} parquet files says train or test: they are read as one set")
    parts = {}
    for split, found in splits.items():
        whole = [path / file for file in found]
        if split != "train" and not any(map(_rows, whole)):
            parts[split] = unlabelled(str(whole[0]), 0)
            continue
        try:
            parts[split] = _part(whole, path, form, notes)
        except NoLabels:
            if split == "train":
                raise
            parts[split] = unlabelled(str(whole[0]), sum(_rows(file) for file in whole))
    return assemble(name, parts, list(dict.fromkeys(notes)))


def _folders(split: str, files: Sequence[Any]) -> list[str]:
    """A note if the files of a split lie in several folders that are not named after splits."""
    folders = {"/".join(part for part in file.parts[:-1] if not naming.splits_in(part)) for file in files}
    if len(folders) < 2:
        return []
    return [f"{split} files of {len(folders)} folders are read together: {', '.join(sorted(folders))}"]


def has_images(file: Path, form: Form) -> bool:
    """Whether a parquet file has a column of images."""
    with readable(file):
        schema = _schema(file)
    try:
        image_column(schema.names, form.image, str(file))
    except InputError:
        return False
    return True


def names_files(file: Path, form: Form) -> bool:
    """Whether the images of a parquet file are names of other files."""
    schema = _schema(file)
    column = image_column(schema.names, form.image, str(file))
    cell = _head([file], column, file.parent).cells[0].as_py() if _rows(file) else b""
    return isinstance(cell, str) or (isinstance(cell, dict) and cell.get("bytes") is None)


def _schema(file: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_schema(file)


def _rows(file: Path) -> int:
    from pyarrow import parquet

    with readable(file):
        return int(parquet.read_metadata(file).num_rows)


def _part(files: list[Path], root: Path, form: Form, notes: list[str]) -> Part:
    from pyarrow import parquet

    labels: list[Any] = []
    starts: list[int] = []
    names = None
    for file in files:
        with readable(file):
            schema = _schema(file)
        image_column(schema.names, form.image, str(file))  # its absence is told first
        label = label_column(schema.names, form.label, str(file))
        with readable(file):
            values = parquet.read_table(file, columns=[label]).column(0)
        found_names, note = class_names(schema, label, file)
        if names and found_names and names != found_names:
            raise InputError(f"{file} numbers its classes in another way than {files[0]}.")
        names = names or found_names
        notes += note
        starts.append(len(labels))
        labels += label_values(values, label, str(file))
    return part_of(files, starts, labels, names, root, form)


def part_of(
    files: list[Path],
    starts: list[int],
    labels: list[Any],
    names: tuple[str, ...] | None,
    root: Path,
    form: Form,
) -> Part:
    """The images of parquet files, one file after the other, with labels that were read before.

    Args:
        files: The files.
        starts: First row of each file.
        labels: One of each row.
        names: Class names of labels that are integers, if they are known.
        root: The folder below which files that rows name must lie.
        form: Columns, budget, and how pictures are decoded.

    Raises:
        InputError: There is no column of images, or that of one file is of another type.
    """
    column, kind = "", None
    for file in files:
        with readable(file):
            schema = _schema(file)
        column = image_column(schema.names, form.image, str(file))
        kind = kind or schema.field(column).type
        if schema.field(column).type != kind:
            found = schema.field(column).type
            raise InputError(f"column {column!r} of {file} holds {found}, but in {files[0]} it holds {kind}.")

    numbers = holds_numbers(kind, column, str(files[0]))

    @cache
    def cells() -> Cells:
        head = _head(files, column, root)
        fits = True
        with suppress(BadPictures):  # counted with all others later
            fits = numbers or form.holds(len(labels), shape_of(head, form))
        return Cells(_images(files, column, in_memory=fits), column, files, starts, root)

    def pixels(wanted: Wanted) -> Held:
        if numbers:
            return hold_numbers(_as_dataset(cells().cells, column), column, str(files[0]), form, wanted.shape)
        return hold(cells(), form, wanted)

    def grey() -> bool:
        return not numbers and all_grey(cells())

    return Part(str(files[0]), labels, names, Cells(None, column, files, starts).where, pixels, grey)


def _head(files: list[Path], column: str, root: Path) -> Cells:
    """The first images, read without the other rows."""
    import pyarrow

    for file in files:
        with readable(file):
            for batch in batches(file, column):
                return Cells(pyarrow.chunked_array([batch.column(0)]), column, [file], [0], root)
    raise AssertionError("files without rows were refused with their labels")


def _images(files: list[Path], column: str, *, in_memory: bool) -> Any:
    """The column of encoded images, as a pyarrow.ChunkedArray in memory or memory-mapped."""
    import pyarrow
    from pyarrow import parquet

    if not in_memory:
        return mapped(files, column)
    tables = []
    for file in files:
        with readable(file):
            tables.append(parquet.read_table(file, columns=[column]))
    return pyarrow.concat_tables(tables).column(0)


def _as_dataset(cells: Any, column: str) -> Any:
    """A column of lists as a datasets.Dataset in NumPy format."""
    import datasets
    import pyarrow

    return datasets.Dataset(pyarrow.table({column: cells})).with_format("numpy")


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Turn an error of reading a parquet file into an `InputError`."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a readable parquet file ({str(error).splitlines()[0]}).") from None


def class_names(schema: Any, label: str, file: Path) -> tuple[tuple[str, ...] | None, list[str]]:
    """The ClassLabel names of a column, from the Hugging Face note in the schema, and a line about a bad note.

    The column may hold labels or lists of them.
    """
    held = (schema.metadata or {}).get(b"huggingface")
    if held is None:
        return None, []
    try:
        feature = json.loads(held)["info"]["features"].get(label) or {}
        names = (feature.get("feature") or feature).get("names")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, [f"the Hugging Face note in {file.name} cannot be read and is ignored"]
    if names is None:
        return None, []
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None, [f"the Hugging Face note in {file.name} has no list of class names and is ignored"]
    if len(set(names)) < len(names):
        return None, [f"the Hugging Face note in {file.name} names a class twice and is ignored"]
    return tuple(names), []
