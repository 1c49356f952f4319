"""Settings are frozen dataclasses of plain values: checked when made, and the same after a trip through JSON."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args, get_origin, get_type_hints

from attar.core.errors import InputError, unknown


@dataclass(frozen=True)
class Range:
    """The values a number may take, both ends included: `Annotated[int, Range(1)]`."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"at least {self.low:g}"
        if self.low == -math.inf:
            return f"at most {self.high:g}"
        return f"from {self.low:g} to {self.high:g}"


class Settings:
    """What every settings dataclass inherits: range checks on construction, and JSON both ways."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            if name in self.__dataclass_fields__:  # type: ignore[attr-defined]
                _check(name, getattr(self, name), hint)

    def to_json(self) -> dict[str, Any]:
        """Plain values, nested settings as nested dictionaries."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: _plain(getattr(self, field.name)) for field in fields}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            InputError: A name that is no setting, or a value out of its range.
        """
        hints = get_type_hints(cls)
        names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for name in values:
            if name not in names:
                raise unknown(f"setting of {cls.__name__}", name, names)
        return cls(**{name: _typed(value, hints[name]) for name, value in values.items()})


def words(text: str) -> tuple[str, dict[str, str]]:
    """A name and its options: `convnet:norm=batch,width=64`."""
    name, _, rest = text.partition(":")
    pairs = [item.partition("=") for item in rest.split(",") if item]
    return name, {key: value for key, _, value in pairs}


def flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings by name, those of nested settings in their place."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value)
        else:
            yield name, value


def difference(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """The settings that differ, as `name: there -> here`."""
    found = []
    for name in sorted({*there, *here}):
        old, new = there.get(name), here.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += difference(old, new)
        elif old != new:
            found.append(f"{name}: {old} there, {new} asked")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.to_json()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _typed(value: Any, hint: Any) -> Any:
    if isinstance(value, dict) and isinstance(hint, type) and issubclass(hint, Settings):
        return hint.from_json(value)
    if isinstance(value, list):
        return tuple(value)
    return value


def _check(name: str, value: Any, hint: Any) -> None:
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        for note in notes:
            if isinstance(note, Range) and value is not None:
                _check_range(name, value, note)
    if get_origin(hint) in (typing.Union, types.UnionType):
        if value is not None or type(None) not in get_args(hint):
            _check(name, value, _meant(value, get_args(hint)))
    elif get_origin(hint) is tuple:
        _check_tuple(name, value, get_args(hint))
    elif hint is int and (not isinstance(value, int) or isinstance(value, bool)):
        raise InputError(f"{name} is {value}; it must be a whole number.")
    elif get_origin(hint) is Literal and value not in get_args(hint):
        raise unknown(name, str(value), [str(option) for option in get_args(hint)])


def _meant(value: Any, options: tuple[Any, ...]) -> Any:
    """Which option of a union a value is meant for, where its kind tells: the tuple, or the one that is none."""
    several = isinstance(value, (tuple, list))
    fitting = [option for option in options if (get_origin(option) is tuple) == several and option is not type(None)]
    return fitting[0] if len(fitting) == 1 else Any


def _check_tuple(name: str, value: Any, items: tuple[Any, ...]) -> None:
    if not isinstance(value, tuple):
        raise InputError(f"{name} is {value}; it must be a tuple.")
    if items[1:] == (...,):
        for number, item in enumerate(value, start=1):
            _check(f"number {number} of {name}", item, items[0])


def _check_range(name: str, value: Any, allowed: Range) -> None:
    if not isinstance(value, (int, float)) or not allowed.low <= value <= allowed.high:
        raise InputError(f"{name} is {value}; it must be {allowed}.")
