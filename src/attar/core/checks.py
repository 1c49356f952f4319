"""The check of one setting: its type, its range, and what is plain enough for JSON.

A check takes what the setting is called and a value, and gives the value as it is held: NumPy's numbers, tensors
without dimensions and paths become plain ones. Every number has an upper end, if not by its range then by its role.
"""

import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

from attar.core.errors import InputError, shortened, unknown

Check: TypeAlias = Callable[[str, Any], Any]

MOST = MappingProxyType(
    {"lr": 1e6, "size": 1e5, "width": 1e5, "depth": 1e3, "layers": 1e3, "rank": 1e5, "seed": 2**63 - 1}
)
"""The largest value of a number whose range has no upper end, by a word of the setting's name: `lr` in `network_lr`."""
MOST_WHOLE, MOST_REAL = 10**9, 1e12
"""The largest whole and the largest other number without such a word: far beyond use, and far from an overflow."""


@dataclass(frozen=True)
class Range:
    """The values a number may take, both ends included: `Annotated[int, Range(1)]`.

    An end that is left out is the one of the setting's role (`MOST`).
    """

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"at least {_figure(self.low)}"
        if self.low == -math.inf:
            return f"at most {_figure(self.high)}"
        return f"from {_figure(self.low)} to {_figure(self.high)}"


def check_of(field: str, hint: Any, allowed: Range | None = None) -> Check:
    """What sees to a setting.

    Args:
        field: Its name, whose words tell its role.
        hint: Its type, with its notes.
        allowed: A range that is noted further out.
    """
    if get_origin(hint) is Annotated:
        noted = next((note for note in get_args(hint)[1:] if isinstance(note, Range)), allowed)
        return check_of(field, get_args(hint)[0], noted)
    if get_origin(hint) in (typing.Union, types.UnionType):
        return _union(field, get_args(hint), allowed)
    if get_origin(hint) is tuple:
        return _several(field, get_args(hint), allowed)
    if get_origin(hint) is Literal:
        return _choice(get_args(hint))
    if hint in (int, float):
        return _number(hint, allowed or Range(), _most(field, hint))
    if isinstance(get_origin(hint), type):
        return _instance(get_origin(hint))  # a dictionary, whatever is in it
    if isinstance(hint, type) and hint is not Any:
        return {str: _text, bool: _yes_or_no, Path: _path}.get(hint) or _instance(hint)
    return _anything


def bare(hint: Any) -> Any:
    """A type without its notes."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def is_step_size(field: str) -> bool:
    """Whether a number is a step size, by its name."""
    words = field.split("_")
    return "lr" in words and "warm" not in words


def shown(value: Any) -> str:
    """A value in one line of an error: text in quotes, and long ones shortened."""
    value = _unwrapped(value)
    try:
        text = repr(value)
    except Exception:  # a number of thousands of digits, a list without end, or somebody's own object
        text = "a very long number" if isinstance(value, int) else f"a {type(value).__name__}"
    return shortened(" ".join(text.split()))


def _most(field: str, kind: type) -> float:
    role = next((MOST[word] for word in field.split("_") if word in MOST), None)
    return role or (MOST_WHOLE if kind is int else MOST_REAL)


def _figure(number: float) -> str:
    return f"{number:.0f}" if number == int(number) and abs(number) < 1e7 else f"{number:g}"


def _wrong(name: str, value: Any, right: str) -> InputError:
    return InputError(f"{name} is {shown(value)}; it must be {right}.")


def _unwrapped(value: Any) -> Any:
    """The plain value in a NumPy scalar or in a tensor without dimensions; anything else as it is."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        try:
            return value.item()
        except (RuntimeError, ValueError, TypeError):  # a tensor without storage
            return value
    return value


def _number(kind: type, named: Range, most: float) -> Check:
    """A number of a kind in the range that is named, which is shown; where that is open, as its role allows."""
    if most == MOST_REAL and named.high < math.inf:  # an upper end that is named is meant, however large
        most = max(most, named.high)
    low, high = max(named.low, -most), min(named.high, most)
    plain = (int,) if kind is int else (float, int)

    def check(name: str, value: Any) -> Any:
        held = value if type(value) in plain else _as_number(name, value, kind)
        if low <= held <= high:
            return held
        raise _wrong(name, held, _right(held, named, most))

    return check


def _right(value: float, named: Range, most: float) -> str:
    """What a number that is refused must be: in the range that is named, finite, and no larger than its role allows."""
    finite, inside = abs(value) < math.inf, named.low <= value <= named.high
    if abs(named.low) < math.inf > abs(named.high) or (finite and not inside):
        return str(named)
    return str(Range(high=most) if value > 0 else Range(-most)) if finite else "finite"


def _as_number(name: str, value: Any, kind: type) -> int | float:
    """A number of another class as a plain one.

    Raises:
        InputError: It is none, or none of the kind.
    """
    inner = _unwrapped(value)
    number = type(inner) is not bool
    if number and isinstance(inner, numbers.Integral):
        return int(inner)
    if number and kind is float and isinstance(inner, numbers.Real):
        try:
            return float(inner)
        except OverflowError:
            return math.inf
    raise _wrong(name, value, "a whole number" if kind is int else "a number")


def _yes_or_no(name: str, value: Any) -> bool:
    inner = value if type(value) is bool else _unwrapped(value)
    if isinstance(inner, bool):
        return inner
    raise _wrong(name, value, "true or false")


def _text(name: str, value: Any) -> str:
    inner = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(inner, str):
        raise _wrong(name, value, "text")
    if "\0" in inner or not _is_unicode(inner):
        raise _wrong(name, inner, "text without NUL, in UTF-8")
    return inner if type(inner) is str else str.__str__(inner)


def _is_unicode(text: str) -> bool:
    """Whether text can be written down: it holds no half of a character, as names of files that are not UTF-8 do."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _path(name: str, value: Any) -> Path:
    text = _text(name, value)
    return value if isinstance(value, Path) else Path(text)


def _anything(name: str, value: Any) -> Any:
    """An object, or the text that names it; a path is text."""
    if isinstance(value, os.PathLike):
        value = os.fsdecode(value)
    if isinstance(value, str):
        return _text(name, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong(name, value, "finite")
    if isinstance(value, (list, tuple)):
        for item in value:
            _anything(name, item)
    return value


def _choice(options: tuple[Any, ...]) -> Check:
    by_value = {(type(option), option): option for option in options}

    def check(name: str, value: Any) -> Any:
        inner = _unwrapped(value)
        if isinstance(inner, str):
            inner = str.__str__(inner)
        if isinstance(inner, (str, int, bool)) and (type(inner), inner) in by_value:
            return by_value[type(inner), inner]
        given = inner if isinstance(inner, str) else shown(inner)
        raise unknown(name, given, [str(option) for option in options])

    return check


def _instance(family: type) -> Check:
    def check(name: str, value: Any) -> Any:
        if not isinstance(value, family):
            raise _wrong(name, value, "none" if family is type(None) else f"of type {family.__name__}")
        return value

    return check


def _several(field: str, items: tuple[Any, ...], allowed: Range | None) -> Check:
    """A tuple, of any length or of one."""
    endless = items[1:] == (...,)
    checks = [check_of(field, item, allowed) for item in (items[:1] if endless else items)]

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, tuple):
            raise _wrong(name, value, "a tuple")
        if not endless and len(value) != len(checks):
            raise _wrong(name, value, f"a tuple of {len(checks)}")
        each: Sequence[Check] = checks * len(value) if endless else checks
        held = tuple(
            one(f"number {number} of {name}", item)
            for number, (one, item) in enumerate(zip(each, value, strict=True), start=1)
        )
        same = type(value) is tuple and all(new is old for new, old in zip(held, value, strict=True))
        return value if same else held

    return check


def _union(field: str, options: tuple[Any, ...], allowed: Range | None) -> Check:
    """One of several types. A value that none of them takes is refused as by the one that it is meant for."""
    takes_none = type(None) in options
    rest = [option for option in options if option is not type(None)]
    singles = [check_of(field, option, allowed) for option in rest if get_origin(bare(option)) is not tuple]
    tuples = [check_of(field, option, allowed) for option in rest if get_origin(bare(option)) is tuple]

    def check(name: str, value: Any) -> Any:
        if value is None and takes_none:
            return None
        refusals: list[InputError] = []
        for one in (tuples or singles) if isinstance(value, (tuple, list)) else (singles or tuples):
            try:
                return one(name, value)
            except InputError as refusal:
                refusals.append(refusal)
        raise refusals[0]

    return check
