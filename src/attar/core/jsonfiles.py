"""JSON files that somebody may have changed: one reader, and values by type. This file does not import torch."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attar.core.errors import InputError

DEEPEST = 100
"""Levels of lists and objects within each other. attar writes fewer than ten."""
DIGITS = 40
"""Digits of a whole number. attar writes at most twenty."""


def parsed(text: str | bytes) -> Any:
    """A value from JSON in UTF-8.

    Raises:
        ValueError: It is not JSON, not UTF-8, nested too deeply, or holds a number of too many digits.
    """
    try:
        value = json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_depth(value)
    return value


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InputError: The file is missing, cannot be read, or is not JSON.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file.")
        return parsed(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} is missing.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None
    except ValueError:
        raise InputError(f"{path} is damaged: it is not JSON.") from None


def lines_of(path: Path) -> Iterator[dict[str, Any] | None]:
    """The objects of a file with one JSON object on each line; None for a line that is anything else.

    A last line that a kill has cut off is left out.

    Raises:
        InputError: The file cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path} is {'not a file' if path.exists() else 'missing'}.")
    try:
        with path.open("rb") as file:
            for line in file:
                value = _object(line)
                if value is None and not line.endswith(b"\n"):
                    return
                yield value
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None


def number(value: Any, most: float = 1e18) -> float | None:
    """A finite number that is not larger than `most` in size; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if -most <= value <= most else None


def valid(value: Any) -> Any:
    """Plain values as JSON can have them: null for numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: valid(item) for name, item in value.items()}
    return [valid(item) for item in value] if isinstance(value, (list, tuple)) else value


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = parsed(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [item for one in level for item in _inside(one)]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
