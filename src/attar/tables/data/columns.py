"""Columns of Arrow as numbers, and numbers as columns of Arrow of the types that the file had."""

import datetime
import hashlib
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from attar.core.errors import InputError, reason_of, shortened
from attar.images.data.arrow import Table
from attar.tables.data.types import DAY, SECOND, held, plain, type_named
from attar.tables.sources import Column, Rows, Schema

LARGEST = 1e30
"""Largest number, so that squares and differences stay finite."""
EXACT = 2**53 - 1
"""Largest whole number below which a double holds all exactly."""
MISSING, OTHER = "<missing>", "<other>"
"""Names of the levels of missing values and of values that are no level."""
TRUTH = ("false", "true")
"""Levels of columns of true and false."""


# ------------------------------------------------------------------------------------------------------------- to rows


def rows_of(table: Table, schema: Schema) -> Rows:
    """The rows of a table as numbers.

    Raises:
        InputError: A column is lacking, or a value is not one that its column may have.
    """
    values = np.stack([values_of(table, column) for column in schema.columns], axis=1)
    return Rows(schema, torch.from_numpy(values))


def values_of(table: Table, column: Column) -> np.ndarray:
    """A column as numbers in double precision: numbers, or the numbers of levels.

    Raises:
        InputError: There is no such column, or a value is not one that it may have.
    """
    if column.type == "number":
        values = numbers(table, column.name)
        if not column.missing and bool(np.isnan(values).any()):
            row = int(np.flatnonzero(np.isnan(values))[0])
            raise InputError(f"{table.where(row)} has no value in column {column.name!r}; set missing in its schema.")
        return values
    values, found = _codes(table, column)
    for code, told in ((-1, "no value"), (-2, "a value that is no level")):
        if bool((values == code).any()):
            row = int(np.flatnonzero(values == code)[0])
            value = f" ({shortened(str(found.words[int(found.codes[row])]))!r})" if code == -2 else ""
            raise InputError(f"{table.where(row)} has {told}{value} in column {column.name!r}.")
    return values.astype(np.float64)


def values_or_nan(table: Table, column: Column) -> np.ndarray:
    """The same with NaN for whatever the column may not have: a missing value, or one that is no level.

    Raises:
        InputError: There is no such column, or it holds something else than numbers.
    """
    if column.type == "number":
        return numbers(table, column.name)
    values, _ = _codes(table, column)
    return np.where(values < 0, np.nan, values)


def _codes(table: Table, column: Column) -> tuple[np.ndarray, "Texts"]:
    """The number of each row's level, -1 of a missing and -2 of another value that has none; and the words."""
    known = {level: code for code, level in enumerate(column.known)}
    found = texts(table, column)
    codes = np.asarray([_code(text, column, known) for text in found.words], dtype=np.int64)
    return np.where(found.codes >= 0, codes[found.codes] if len(codes) else -2, -1), found


def _code(text: str | None, column: Column, known: dict[str, int]) -> int:
    """The number of a level; -1 of a missing and -2 of another value for which there is none."""
    if text is None:
        return -1 if column.missing_code is None else column.missing_code
    code = known.get(text, column.other_code)
    return -2 if code is None else code


def _column(table: Table, name: str) -> Any:
    """A column as it is stored.

    Raises:
        InputError: There is none of the name.
    """
    if name not in table.there:
        raise InputError(f"{table.name} has no column {shortened(name)!r}, which the training rows or the schema have.")
    return table.columns.column(name)


class Texts:
    """A column as the different values that it has, and the number of each row's."""

    def __init__(self, words: Sequence[str | None], codes: np.ndarray) -> None:
        """Values in words, missing ones as None, and the number of each row's."""
        self.words, self.codes = list(words), codes

    def counted(self) -> dict[str | None, int]:
        """How many rows have each value."""
        found: dict[str | None, int] = {}
        for word, count in zip(self.words, np.bincount(self.codes, minlength=len(self.words)).tolist(), strict=True):
            found[word] = found.get(word, 0) + count
        return {word: count for word, count in found.items() if count}


def texts(table: Table, column: Column) -> Texts:
    """A column in words, whatever it holds: as it is, by a threshold, or in buckets.

    Raises:
        InputError: It holds what has no words.
    """
    if column.of and column.name not in table.there:
        return _divided(table, column)
    stored = _column(table, column.name)
    whole = plain(stored)
    if held(whole.type) not in ("none", "truth", "text", "whole", "real", "date"):
        raise InputError(
            f"{table.name} has {whole.type} in column {column.name!r}, which cannot be read. Leave it out with "
            f"--ignored {shlex.quote(column.name)}."
        )
    values, codes = _encoded(stored)
    words = [in_words(value) for value in values]
    if column.buckets:
        words = [word if word is None or word in column.known else bucket(word, column.buckets) for word in words]
    return Texts(words, codes)


def _encoded(column: Any) -> tuple[list[Any], np.ndarray]:
    """The values of a column, each once and missing ones as None, and the number of each row's.

    Categories keep their order, and those that no row has.
    """
    from pyarrow import types

    if not types.is_dictionary(column.type):
        column = column.dictionary_encode("mask")
    chunks = column.unify_dictionaries().chunks
    if not chunks:
        return [], np.zeros(0, dtype=np.int64)
    values = chunks[0].dictionary.to_pylist()
    codes = [chunk.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64) for chunk in chunks]
    return [*values, None], np.concatenate(codes)


def _divided(table: Table, column: Column) -> Texts:
    """A column in two: below a number or not, or of a level or not."""
    if column.below is not None:
        values = numbers(table, column.of)
        codes = np.where(np.isnan(values), 2, values < column.below)
    else:
        found = texts(table, Column(name=column.of, type="category"))
        wanted = np.asarray([2 if word is None else word == column.equals for word in found.words], dtype=np.int64)
        codes = wanted[found.codes] if len(wanted) else np.zeros(0)
    return Texts([*TRUTH, None], codes.astype(np.int64))


def in_words(value: Any) -> str | None:
    """A value in words, as levels are written; None if it is missing."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool):
        return TRUTH[value]
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < EXACT else repr(value)
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return str(value)


def bucket(word: str, buckets: int) -> str:
    """The bucket that a value is hashed to."""
    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
    return f"bucket {int.from_bytes(digest, 'little') % buckets}"


def numbers(table: Table, name: str) -> np.ndarray:
    """A column of numbers or dates in double precision. What is missing is NaN.

    Raises:
        InputError: It holds something else, or numbers that are infinite or too large.
    """
    import pyarrow
    from pyarrow import types

    column = plain(_column(table, name))
    kind, unit = held(column.type), 1.0
    if kind == "none":
        return np.full(len(column), np.nan)
    if kind not in ("truth", "whole", "real", "date"):
        raise InputError(f"{table.name} has {column.type} in column {name!r}, which holds no numbers.")
    if kind == "truth":
        column = column.cast(pyarrow.int8())
    if kind == "date":
        whole = types.is_date32(column.type)
        unit = 1.0 if whole else DAY * SECOND[getattr(column.type, "unit", "ms")]
        column = column.cast(pyarrow.int32() if whole else pyarrow.int64())
    elif kind == "whole":
        _check_exact(column, table, name)
    values = np.array(column.cast(pyarrow.float64(), safe=False).to_numpy(), dtype=np.float64)
    bad = np.flatnonzero(np.abs(values) > LARGEST)
    if len(bad):
        told = f"{table.where(int(bad[0]))} has {values[bad[0]]:g} in column {name!r}"
        raise InputError(f"{told}; give finite numbers up to {LARGEST:g}, or leave the value out.")
    return values / unit


def _check_exact(column: Any, table: Table, name: str) -> None:
    """Check that whole numbers can be held in double precision.

    Raises:
        InputError: One is too large.
    """
    import pyarrow.compute as pc

    if len(column) == column.null_count:
        return
    ends = pc.min_max(column).as_py()
    worst = max(ends.values(), key=abs)
    if abs(worst) > EXACT:
        raise InputError(
            f"column {name!r} of {table.name} holds {worst}, which is too large to be exact. Leave it out with "
            f"--ignored {shlex.quote(name)}, or hash it with --hashed {shlex.quote(name)}."
        )


# ----------------------------------------------------------------------------------------------------------- and back


def arrow_of(rows: Rows) -> Any:
    """The rows as a pyarrow.Table, with the names and types of the file."""
    import pyarrow

    columns = {column.name: stored(rows.of(column).numpy(), column) for column in rows.schema.columns}
    return pyarrow.table(columns)


def settled(rows: Rows) -> Rows:
    """The rows as they are after they were written and read: whole where numbers are, in single precision, in range."""
    return rows_of(Table("the rows", arrow_of(rows), count=len(rows)), rows.schema)


def stored(values: np.ndarray, column: Column) -> Any:
    """Numbers, or the numbers of levels, as an array of Arrow of the column's type in the file.

    Raises:
        InputError: That type does not hold them.
    """
    from pyarrow import ArrowException

    kind, made = type_named(column.stored), _of_levels if column.type == "category" else _of_numbers
    try:
        return made(values, column, kind)
    except ArrowException as error:
        raise InputError(f"column {column.name!r} is not stored as {column.stored}: {reason_of(error)}.") from None


def _of_numbers(values: np.ndarray, column: Column, kind: Any) -> Any:
    import pyarrow
    from pyarrow import types

    absent = np.isnan(values)
    values = np.where(absent, 0.0, values)
    if types.is_null(kind):
        return pyarrow.nulls(len(values))
    if types.is_boolean(kind):
        return pyarrow.array(values >= 0.5, mask=absent)
    if column.dated:
        whole = types.is_date32(kind)
        unit = 1 if whole else DAY * SECOND[getattr(kind, "unit", "ms")]
        limit = 2**31 - 1 if whole else 2**63 - 2**10
        ticks = np.clip(np.rint(values * unit), -limit, limit)
        if types.is_date64(kind):
            ticks = np.rint(values) * unit
        elif not whole and unit >= DAY * SECOND["ns"]:
            ticks = np.rint(ticks / 1000) * 1000  # a double holds days to a microsecond
        return pyarrow.array(ticks.astype(np.int32 if whole else np.int64), mask=absent).cast(kind)
    if types.is_integer(kind):
        low, high = _ends(kind)
        return pyarrow.array(np.clip(np.rint(values), low, high).astype(np.int64), mask=absent).cast(kind)
    if types.is_decimal(kind):
        return pyarrow.array(np.round(values, kind.scale), mask=absent).cast(kind, safe=False)
    return pyarrow.array(np.rint(values) if column.whole else values, mask=absent).cast(kind, safe=False)


def _ends(kind: Any) -> tuple[int, int]:
    """The smallest and the largest value of a type of whole numbers, as far as a double holds them exactly."""
    from pyarrow import types

    signed = types.is_signed_integer(kind)
    bits = min(kind.bit_width - signed, 53)
    return (-(2**bits) if signed else 0), 2**bits - 1


def _of_levels(values: np.ndarray, column: Column, kind: Any) -> Any:
    import pyarrow
    from pyarrow import types

    codes = values.astype(np.int64)
    absent = codes == column.missing_code if column.missing else np.zeros(len(codes), dtype=bool)
    inside = kind.value_type if types.is_dictionary(kind) else kind
    words: list[str | None] = [*column.known, *([None] if column.missing else []), *([OTHER] if column.other else [])]
    if column.other and held(inside) != "text":
        words[-1], absent = None, absent | (codes == column.other_code)
    if types.is_dictionary(kind):
        kept = [word for word in words if word is not None]
        if column.missing and column.other:
            codes = np.where(codes == column.other_code, codes - 1, codes)
        levels = pyarrow.array(kept, pyarrow.string()).cast(inside)
        indices = pyarrow.array(np.where(absent, 0, codes), mask=absent).cast(kind.index_type)
        return pyarrow.DictionaryArray.from_arrays(indices, levels, ordered=kind.ordered)
    if types.is_null(kind):
        return pyarrow.nulls(len(codes))
    return pyarrow.array(words, pyarrow.string()).take(pyarrow.array(codes)).cast(inside)
