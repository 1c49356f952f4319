"""Labels and captions in columns: which columns they are, how many labels a row has, and which classes there are.

Labels are a column of class numbers or names (one label), columns of 0 and 1 (several labels), or a column of lists of
class numbers or names (several labels). In CSV a list is text such as `cat;dog`, `0|3` or `["cat", "dog"]`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from attar.core.errors import InputError, shortened, unknown
from attar.embeddings.data.arrow import Table
from attar.images.data import naming
from attar.images.data.columns import LABELS, OTHER_LABELS, label_values

CAPTIONS = ("caption", "captions", "text")
"""Usual names of a column of captions."""
NONE = "none"
"""What is asked for if there are no labels."""
ADVICE = "Name the columns of labels with --label a,b,c."
MOST_ENTRIES = 10**9
"""Largest number of entries of a matrix of samples and classes: 1 GB."""
Form = Literal["none", "one", "several", "lists"]


@dataclass(frozen=True)
class Labelling:
    """Where the labels of a table are."""

    form: Form = "none"
    """No labels; one column of classes; several columns of 0 and 1; or one column of lists."""
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


# -------------------------------------------------------------------------------------------------------- which columns


def labelling(table: Table, asked: str | None, free: Sequence[str], *, features: bool) -> Labelling:
    """Find the columns of labels.

    Args:
        table: The training rows.
        asked: The name of a column, several names with commas between them, or none. Default: usual names; of feature
            tables columns of 0 and 1 at the end, or the only column of names; of pictures all columns of 0 and 1.
        free: The columns that are nothing else.
        features: Whether the other columns are features.

    Raises:
        InputError: There is no such column, or labels and features cannot be told apart.
    """
    if asked == NONE and asked not in table.there:
        return Labelling()
    if asked is not None:
        return _asked(table, asked)
    named = _usual(table, free, LABELS)
    binary = _binary_tail(table, free) if features else [name for name in free if _is_binary(table, name)]
    if not named and features and not binary:
        _check_tail(table, free)
    if not named and len(binary) < 2:
        named = _usual(table, free, OTHER_LABELS)
    if named:
        note = f"column {named!r} is the label"
        return Labelling(_form(table, named), (named,), (note,) if named.lower() in OTHER_LABELS else ())
    if features and binary and len(binary) == len(free):
        raise InputError(f"all columns of {table.name} hold only 0 and 1, so no features are found. {ADVICE}")
    if len(binary) > 1:
        note = f"the {len(binary)} columns of 0 and 1{' at the end' * features} are the labels: {naming.few(binary)}"
        return Labelling("several", tuple(binary), (note,))
    if binary:
        note = f"column {binary[0]!r} holds only 0 and 1 and is the label"
        return Labelling("one", tuple(binary), (note,))
    return _names(table, free) if features else Labelling()


def _asked(table: Table, asked: str) -> Labelling:
    if asked in table.there:
        return Labelling(_form(table, asked), (asked,))
    names = tuple(name.strip() for name in asked.split(",") if name.strip())
    for name in names:
        if name not in table.there:
            raise unknown(f"column of {table.name}", name, table.there)
        if names.count(name) > 1:
            raise InputError(f"label names column {name!r} twice. Give each column once.")
    if not names:
        raise InputError(f"label names no column. {ADVICE}")
    return Labelling("several" if len(names) > 1 else _form(table, names[0]), names)


def _usual(table: Table, free: Sequence[str], usual: Sequence[str]) -> str:
    """The column with a usual name that may hold labels, if there is one.

    Raises:
        InputError: There are several.
    """
    found = [name for name in free if name.lower() in usual and not _is_real(table, name)]
    exact = [name for name in usual if name in found and usual is LABELS]
    if exact or len(found) == 1:
        return (exact or found)[0]
    if found:
        raise InputError(f"{table.name} has several columns of labels: {', '.join(found)}. Name one with --label.")
    return ""


def _names(table: Table, free: Sequence[str]) -> Labelling:
    """The only column of text as the label, if its values repeat; otherwise no labels."""
    texts = [name for name in free if kind_of(table, name) == "text"]
    if len(texts) != 1:
        return Labelling()
    values = table.columns.column(texts[0]).to_pylist()
    if any(_number(value) for value in values) or len(set(values)) > max(2, len(values) // 2):
        return Labelling()
    return Labelling(_form(table, texts[0]), (texts[0],), (f"column {texts[0]!r} holds names and is the label",))


def _form(table: Table, name: str) -> Form:
    kind = kind_of(table, name)
    if kind == "list":
        return "lists"
    if kind != "text":
        return "one"
    cells = (cell for cell in table.columns.column(name).to_pylist() if cell)
    return "lists" if any("|" in cell or ";" in cell or _bracketed(cell) for cell in cells) else "one"


def kind_of(table: Table, name: str) -> str:
    """What a column holds: list, text, whole, real, or another type."""
    from pyarrow import types

    kind = table.columns.schema.field(name).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list"
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    if types.is_boolean(kind) or types.is_integer(kind):
        return "whole"
    return "real" if types.is_floating(kind) or types.is_decimal(kind) else str(kind)


def _is_real(table: Table, name: str) -> bool:
    """Whether a column holds numbers that are not whole."""
    if kind_of(table, name) != "real":
        return False
    values = numbers(table, name)
    values = values[~np.isnan(values)]
    return bool((values != np.floor(values)).any())


def _is_binary(table: Table, name: str) -> bool:
    column = table.columns.column(name)
    if kind_of(table, name) != "whole" or column.null_count or not len(column):
        return False
    values = numbers(table, name)
    return bool(((values == 0) | (values == 1)).all())


def _binary_tail(table: Table, free: Sequence[str]) -> list[str]:
    """The columns of 0 and 1 at the end."""
    tail: list[str] = []
    for name in reversed(free):
        if not _is_binary(table, name):
            break
        tail.insert(0, name)
    return tail


def _check_tail(table: Table, free: Sequence[str]) -> None:
    """Check that the last column is not nearly one of labels.

    Raises:
        InputError: It holds -1 and 1, or 0 and 1 with few other values after columns of 0 and 1.
    """
    if not free or kind_of(table, free[-1]) != "whole":
        return
    name, values = free[-1], numbers(table, free[-1])
    if set(np.unique(values).tolist()) == {-1.0, 1.0}:
        told = f"column {name!r} of {table.name} holds only -1 and 1"
    else:
        bad = np.flatnonzero((values != 0) & (values != 1))
        if not 0 < len(bad) <= len(values) // 20 or len(_binary_tail(table, free[:-1])) < 2:
            return
        value = table.columns.column(name)[int(bad[0])].as_py()
        value = "no value" if value is None else repr(value)
        told = f"{table.where(int(bad[0]))} has {value} in column {name!r}, which else holds 0 and 1"
    raise InputError(f"{told}. Write labels as 0 and 1, or say with --label which columns they are, or none.")


def numbers(table: Table, name: str) -> np.ndarray:
    """A column of numbers in double precision. What is missing is NaN.

    Raises:
        InputError: The column holds something else.
    """
    import pyarrow
    from pyarrow import types

    column = table.columns.column(name)
    kind = column.type
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    if types.is_boolean(kind):
        column = column.cast(pyarrow.int8())
    elif not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
        row, value = next(((r, v) for r, v in enumerate(column.to_pylist()) if not _number(v)), (0, None))
        held = (
            f"{table.where(row)} has {shortened(repr(value))} in"
            if kind_of(table, name) == "text"
            else f"{table.name} has {kind} in"
        )
        raise InputError(f"{held} column {name!r}; features are numbers. Name a column of labels with --label.")
    try:
        return np.asarray(column.cast(pyarrow.float64(), safe=False).to_numpy(), dtype=np.float64)
    except pyarrow.ArrowException:
        raise InputError(f"column {name!r} of {table.name} holds {kind}, which cannot be read as numbers.") from None


def _number(value: Any) -> bool:
    try:
        return value is not None and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


# --------------------------------------------------------------------------------------------------------- their values

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
    if _bracketed(cell):
        for text in (cell, cell.replace("'", '"')):
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                continue
            return found if isinstance(found, list) else [cell]
        cell = ";".join(word.strip("'\"") for word in cell.strip()[1:-1].split())  # as NumPy writes a list
    separator = "|" if "|" in cell else ";"
    return [item.strip() for item in cell.split(separator) if item.strip()]


def _bracketed(cell: str) -> bool:
    return cell.strip().startswith("[") and cell.strip().endswith("]")


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


# ------------------------------------------------------------------------------------------------------------- captions


def caption_column(table: Table, asked: str | None) -> str | None:
    """The name of the column of captions: the given one, or a usual one, if there is one.

    Raises:
        InputError: There is no such column.
    """
    if asked is not None:
        if asked not in table.there:
            raise unknown(f"column of {table.name}", asked, table.there, hint="Name one with --captions.")
        return asked
    usual = [name for one in CAPTIONS for name in table.there if name.lower() == one]
    return next((name for name in usual if kind_of(table, name) in ("text", "list")), None)


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
