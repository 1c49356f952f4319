"""Types of Arrow by their names, and what they hold."""

import re
from typing import Any

from attar.core.errors import InputError, shortened

DICTIONARY = re.compile(r"dictionary<values=(.+), indices=(\w+), ordered=([01])>")
TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]")
DECIMAL = re.compile(r"decimal(128|256)\((\d+), (-?\d+)\)")
SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Units of a time in a second."""
DAY = 86400


def type_named(text: str) -> Any:
    """The type of Arrow that `str` of it gives.

    Raises:
        InputError: There is none.
    """
    import pyarrow

    try:
        if found := DICTIONARY.fullmatch(text):
            values, index, ordered = found.groups()
            return pyarrow.dictionary(type_named(index), type_named(values), ordered=ordered == "1")
        if found := TIMESTAMP.fullmatch(text):
            return pyarrow.timestamp(found[1], found[2])
        if found := DECIMAL.fullmatch(text):
            make = pyarrow.decimal128 if found[1] == "128" else pyarrow.decimal256
            return make(int(found[2]), int(found[3]))
        if text in ("string_view", "large_string", "decimal32", "decimal64"):
            return getattr(pyarrow, text)()
        return pyarrow.type_for_alias(text)
    except (pyarrow.ArrowException, ValueError, TypeError, AttributeError):
        raise InputError(f"stored is {shortened(text)!r}, which is no type of Arrow. Leave it as it was.") from None


def held(kind: Any) -> str:
    """What a type holds: none, truth, text, whole, real, date, or another type by its name."""
    from pyarrow import types

    if types.is_dictionary(kind):
        inside = held(kind.value_type)
        return "text" if inside in ("text", "whole", "truth") else str(kind)
    if types.is_null(kind):
        return "none"
    if types.is_boolean(kind):
        return "truth"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_integer(kind):
        return "whole"
    if types.is_floating(kind) or types.is_decimal(kind):
        return "real"
    return "date" if types.is_date(kind) or types.is_timestamp(kind) else str(kind)


def plain(column: Any) -> Any:
    """A column of categories as one of their values; any other as it is."""
    from pyarrow import types

    return column.cast(column.type.value_type) if types.is_dictionary(column.type) else column
