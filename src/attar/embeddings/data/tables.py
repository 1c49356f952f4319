"""Feature tables: rows of numbers, with label columns or without."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.embeddings.data.label_columns import Labelling, kind_of, labelling, numbers
from attar.embeddings.data.labels import labels_of
from attar.embeddings.data.raw import RawSamples
from attar.embeddings.sources import Features, Part, check_finite_rows
from attar.images.data import arrow, naming
from attar.images.data.arrow import Table

LARGEST = 1e30
"""Largest number of a feature, so that squares and differences stay finite."""
NAMES = ("id", "name", "file_name", "filename", "file")
"""Usual names of a column that names or numbers the rows."""


def from_files(name: str, path: Path, files: Sequence[Path], asked: str | None) -> RawSamples:
    """Read the tables of a folder, or one file.

    Args:
        name: The name of the set.
        path: The folder or the file that was given. Names of splits count below it.
        files: The files.
        asked: Columns of labels.

    Raises:
        InputError: A file cannot be read, or its columns are not features and labels.
    """
    if path.is_file():
        return from_tables(name, arrow.in_splits({"train": arrow.of_files([path])}), asked)
    groups, notes = arrow.grouped([file.relative_to(path) for file in files], str(path))
    tables = {split: arrow.of_files([path / file for file in some]) for split, some in groups.items()}
    return from_tables(name, arrow.in_splits(tables), asked, notes)


def from_tables(name: str, parts: Mapping[str, Table], asked: str | None, notes: Sequence[str] = ()) -> RawSamples:
    """Rows of numbers as samples.

    Args:
        name: The name of the set.
        parts: The rows of each split; training rows at least.
        asked: Columns of labels.
        notes: What was left out or decided so far.

    Raises:
        InputError: There are no rows or no features, a value is missing, or labels are wrong.
    """
    first = parts["train"]
    if not len(first):
        raise InputError(f"{first.name} has no rows.")
    free = [column for column in first.there if not _names_rows(first, column)]
    found = labelling(first, asked, free, features=True)
    features = [column for column in free if column not in found.columns]
    left = [column for column in first.there if column not in (*free, *found.columns)]
    notes = [*notes, *([f"left out, because it names the rows: column {left[0]!r}"] if left else [])]
    if not features:
        raise InputError(f"all columns of {first.name} are labels, so no features are left. Name fewer with --label.")
    labels, classes, told = labels_of(parts, found)
    labelled = found.form != "none"
    train, test, more = naming.chosen(
        {split: (part, labels[split]) for split, part in parts.items()},
        labelled=lambda one: one[1] is not None or not labelled,
        images=lambda one: len(one[0]),
        what="rows",
    )
    halves = [None if one is None else Part(Features(_features(one[0], features)), one[1]) for one in (train, test)]
    assert halves[0] is not None
    told = [*first.notes, *notes, *told, *more, *_unlabelled(found)]
    return RawSamples(name, classes, halves[0], halves[1], tuple(dict.fromkeys(told)))


def _names_rows(table: Table, column: str) -> bool:
    """Whether a column has a usual name for names or numbers of rows, and no value twice."""
    if column.lower() not in NAMES or kind_of(table, column) not in ("text", "whole"):
        return False
    values = table.columns.column(column)
    return values.null_count == 0 and len(values.unique()) == len(values)


def _unlabelled(found: Labelling) -> list[str]:
    """A note that nothing was taken for labels."""
    if found.form != "none":
        return []
    return ["no column is one of labels: all are features; labels are named with --label"]


def _features(table: Table, names: Sequence[str]) -> Float[Tensor, "sample feature"]:
    """The features in single precision."""
    missing = next((name for name in names if name not in table.there), None)
    if missing is not None:
        raise InputError(f"{table.name} has no column {missing!r}, which the training rows have.")
    values = np.stack([numbers(table, name) for name in names], axis=1)
    check_finite_rows(torch.from_numpy(values), table.name, names)
    check_sizes(values, table.name, names)
    return torch.from_numpy(values.astype(np.float32))


def check_sizes(values: np.ndarray, where: str, names: Sequence[str]) -> None:
    """Check that numbers can be computed with in single precision.

    Raises:
        InputError: One is too large.
    """
    large = np.argwhere(np.abs(values) > LARGEST)
    if len(large):
        row, column = map(int, large[0])
        raise InputError(
            f"row {row} of {where} has {values[row, column]:g} in column {names[column]!r}; give numbers up to "
            f"{LARGEST:g}, or scale the column."
        )
