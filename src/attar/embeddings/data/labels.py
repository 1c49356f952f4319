"""The labels of each row, the classes that there are, and captions, once it is known which columns hold them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from attar.core.errors import InputError, shortened
from attar.embeddings.data.label_columns import Labelling, is_bracketed, kind_of, numbers
from attar.images.data import naming
from attar.images.data.arrow import Table
from attar.images.data.columns import label_values

MOST_ENTRIES = 10**9
"""Largest number of entries of a matrix of samples and classes: 1 GB."""
Read = tuple[dict[str, Tensor | None], tuple[str, ...], list[str]]
"""The labels of each split, the names of the classes, and notes."""


def labels_of(parts: Mapping[str, Table], found: Labelling) -> Read:
    """Read labels. A part without their columns has none.

    Args:
        parts: The rows of each split; training rows at least.
        found: Where the labels are.

    Raises:
        InputError: A row has no label, or one that is no class.
    """
    if found.form == "none":
        return dict.fromkeys(parts), (), []
    labelled = {split: part for split, part in parts.items() if set(found.columns) <= set(part.there) and len(part)}
    read = {"one": _one, "several": _several, "lists": _of_lists}[found.form]
    labels, classes, notes = read(labelled, found)
    return {split: labels.get(split) for split in parts}, classes, [*found.notes, *notes]


def _one(parts: Mapping[str, Table], found: Labelling) -> Read:
    (name,) = found.columns
    values = {split: _classes_of(part, name) for split, part in parts.items()}
    names = parts["train"].names.get(name)
    present = set(map(str, values["train"]))
    if names is None:
        classes = tuple(naming.in_order(present))
        codes = {value: number for number, value in enumerate(classes)}
    else:
        kept = [number for number, one in enumerate(names) if {str(number), one} & present]
        classes = tuple(names[number] for number in kept)
        codes = {one: number for number, one in enumerate(classes)} | {str(n): c for c, n in enumerate(kept)}
    labels: dict[str, Tensor | None] = {}
    for split, part in parts.items():
        strange = next((row for row, value in enumerate(values[split]) if str(value) not in codes), None)
        if strange is not None:
            value = shortened(repr(values[split][strange]))
            lack = "that no training sample has" if split != "train" else f"but there are {len(names or ())} classes"
            raise InputError(f"{part.where(strange)} has label {value}, {lack}.")
        labels[split] = torch.tensor([codes[str(value)] for value in values[split]], dtype=torch.int64)
    notes = _absent(names, classes)
    if len(classes) == 1:
        notes.append(f"all samples are of one class, {classes[0]!r}")
    return labels, classes, notes


def _classes_of(part: Table, name: str) -> list[Any]:
    values = label_values(part.columns.column(name), name, part.name)
    for row, value in enumerate(values):
        if value is None or value == "":
            raise InputError(f"{part.where(row)} has no label in column {name!r}.")
        if isinstance(value, int) and value < 0:
            raise InputError(f"{part.where(row)} has label {value}. Give class numbers from 0 on, or names.")
    return values


def _several(parts: Mapping[str, Table], found: Labelling) -> Read:
    labels: dict[str, Tensor | None] = {}
    for split, part in parts.items():
        check_entries(len(part), len(found.columns), part.name)
        labels[split] = torch.stack([_ones(part, name) for name in found.columns], dim=1)
    return finished(labels, found.columns, parts["train"].name)


def _ones(part: Table, name: str) -> Bool[Tensor, " sample"]:
    if kind_of(part, name) not in ("whole", "real"):
        raise InputError(
            f"column {name!r} of {part.name} holds {kind_of(part, name)}; give 0 and 1 in each of several columns."
        )
    values = numbers(part, name)
    bad = np.flatnonzero((values != 0) & (values != 1))
    if len(bad):
        value = part.columns.column(name)[int(bad[0])].as_py()
        told = "no value" if value is None else repr(value)
        raise InputError(f"{part.where(int(bad[0]))} has {told} in label column {name!r}; give 0 or 1.")
    return torch.from_numpy(values == 1)


def _of_lists(parts: Mapping[str, Table], found: Labelling) -> Read:
    (name,) = found.columns
    rows = {split: list(_lists(part, name)) for split, part in parts.items()}
    names = parts["train"].names.get(name)
    if names is not None:
        classes = names
    elif all(isinstance(item, int) for several in rows.values() for items in several for item in items):
        classes = tuple(map(str, range(max((int(item) for items in rows["train"] for item in items), default=-1) + 1)))
    else:
        classes = tuple(naming.in_order(str(item) for items in rows["train"] for item in items))
    if not classes:
        raise InputError(f"no row of {parts['train'].name} has a label in column {name!r}.")
    codes = {one: number for number, one in enumerate(classes)} | {str(n): n for n in range(len(names or ()))}
    labels: dict[str, Tensor | None] = {}
    strange: set[str] = set()
    for split, part in parts.items():
        check_entries(len(part), len(classes), part.name)
        matrix = torch.zeros(len(part), len(classes), dtype=torch.bool)
        for row, items in enumerate(rows[split]):
            for item in map(str, items):
                if item in codes:
                    matrix[row, codes[item]] = True
                elif names is not None:
                    raise InputError(f"{part.where(row)} has label {item}, but there are {len(names)} classes.")
                else:
                    strange.add(item)
        labels[split] = matrix
    read, classes, notes = finished(labels, classes, parts["train"].name)
    if strange:
        notes.append(f"labels that no training sample has are left out: {naming.few(naming.in_order(strange))}")
    return read, classes, notes


def _lists(part: Table, name: str) -> Iterator[list[int | str]]:
    """The labels of each row, as class numbers or names."""
    cells = part.columns.column(name).to_pylist()
    texts = any(isinstance(cell, str) for cell in cells)
    lists = [_separated(cell) if isinstance(cell, str) else cell for cell in cells]
    whole = texts and all(_whole(item) for items in lists if items for item in items)
    for row, items in enumerate(lists):
        if items is None:
            raise InputError(f"{part.where(row)} has no list of labels in column {name!r}; an empty list says none.")
        yield [_label(int(item) if whole else item, row, part, name) for item in items]


def _label(item: Any, row: int, part: Table, name: str) -> int | str:
    if isinstance(item, str) and item:
        return item
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    if not isinstance(item, int) or isinstance(item, bool) or item < 0:
        raise InputError(
            f"{part.where(row)} has the label {shortened(repr(item))} in column {name!r}; give class numbers from 0 "
            "on, or names."
        )
    if item >= 10**6:
        raise InputError(f"{part.where(row)} has the label {item:,} in column {name!r}; number the classes from 0 on.")
    return item


def _separated(cell: str) -> list[Any]:
    if is_bracketed(cell):
        for text in (cell, cell.replace("'", '"')):
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                continue
            return found if isinstance(found, list) else [cell]
        cell = ";".join(word.strip("'\"") for word in cell.strip()[1:-1].split())  # as NumPy writes a list
    separator = "|" if "|" in cell else ";"
    return [item.strip() for item in cell.split(separator) if item.strip()]


def _whole(item: Any) -> bool:
    return isinstance(item, (int, str)) and str(item).removeprefix("-").isdecimal()


def check_entries(samples: int, classes: int, name: str) -> None:
    """Check that a matrix of samples and classes can be held.

    Raises:
        InputError: It would be too large.
    """
    if samples * classes > MOST_ENTRIES:
        raise InputError(f"{name} has {samples:,} samples and {classes:,} classes, more than can be held as a matrix.")


def finished(labels: dict[str, Tensor | None], classes: Sequence[str], name: str) -> Read:
    """Labels of only the classes that training samples have, with notes about what is unusual.

    Raises:
        InputError: No training sample has a label.
    """
    train = labels["train"]
    assert train is not None
    counts, notes = train.sum(dim=0), []
    if not bool(counts.any()):
        raise InputError(f"no training sample of {name} has a label. Give 1 where a sample has one.")
    kept = counts.nonzero().flatten()
    left = tuple(classes[number] for number in kept.tolist())
    notes += _absent(classes, left)
    found = {split: None if part is None else part[:, kept] for split, part in labels.items()}
    everywhere = [one for one, count in zip(left, counts[kept].tolist(), strict=True) if count == len(train)]
    if everywhere:
        notes.append(f"all training samples have the label {naming.few(everywhere)}")
    for split, part in found.items():
        bare = 0 if part is None else int((~part.any(dim=1)).sum())
        if bare:
            word = "" if len(found) == 1 else "training " if split == "train" else f"{split} "
            notes.append(f"{bare:,} of {len(part):,} {word}samples have no label")  # type: ignore[arg-type]
    return found, left, notes


def _absent(known: Sequence[str] | None, classes: Sequence[str]) -> list[str]:
    """A note about the classes that no training sample has."""
    there = set(classes)
    absent = [name for name in known or () if name not in there]
    if not absent:
        return []
    return [
        f"{len(absent):,} of {len(known or ()):,} classes have no training samples and are left out: "
        f"{naming.few(absent)}"
    ]


def captions_of(table: Table, name: str) -> tuple[tuple[str, ...], list[str]]:
    """A caption of each row, and a note if there were several.

    Raises:
        InputError: A row has none.
    """
    found, most = [], 1
    for row, cell in enumerate(table.columns.column(name).to_pylist()):
        several = cell if isinstance(cell, list) else [cell]
        text = several[0] if several else None
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{table.where(row)} has no caption in column {name!r}.")
        found.append(text.strip())
        most = max(most, len(several))
    return tuple(found), [f"of up to {most} captions of an image the first is taken"] if most > 1 else []
