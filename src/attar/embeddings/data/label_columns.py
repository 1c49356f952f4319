"""Which columns of a table are labels and captions.

Labels are a column of class numbers or names (one label), columns of 0 and 1 (several labels), or a column of lists of
class numbers or names (several labels). In CSV a list is text such as `cat;dog`, `0|3` or `["cat", "dog"]`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from attar.core.errors import InputError, shortened, unknown
from attar.images.data import naming
from attar.images.data.arrow import Table
from attar.images.data.columns import LABELS, OTHER_LABELS

CAPTIONS = ("caption", "captions", "text")
"""Usual names of a column of captions."""
NONE = "none"
"""What is asked for if there are no labels."""
ADVICE = "Name the columns of labels with --label a,b,c."
Form = Literal["none", "one", "several", "lists"]


@dataclass(frozen=True)
class Labelling:
    """Where the labels of a table are."""

    form: Form = "none"
    """No labels; one column of classes; several columns of 0 and 1; or one column of lists."""
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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
    return "lists" if any("|" in cell or ";" in cell or is_bracketed(cell) for cell in cells) else "one"


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


def is_bracketed(cell: str) -> bool:
    """Whether the text of a cell is a list in brackets."""
    return cell.strip().startswith("[") and cell.strip().endswith("]")


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
