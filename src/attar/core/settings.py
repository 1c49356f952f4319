"""Settings as frozen dataclasses of plain values: checked when they are made, and written to and read from JSON."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

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


@dataclass(frozen=True)
class Role:
    """Marks settings of what stands beside a method: the field's name goes in front of their flags."""


@dataclass(frozen=True)
class Hidden:
    """Marks a setting that is filled in, from the data or by a run, and so is no flag."""


@dataclass(frozen=True)
class Words:
    """Marks a setting that takes an object in Python, and its name or folder on the command line."""


class Settings:
    """What every settings dataclass inherits: range checks on construction, and JSON both ways."""

    moved: ClassVar[Mapping[str, str | None]] = MappingProxyType({})
    """Where settings of older files are now, by dotted names; None for one that is no setting any more."""
    itself: ClassVar[str] = ""
    """Of nested settings: the one that stands for all, where a single value is given."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            if name in self.__dataclass_fields__:  # type: ignore[attr-defined]
                _check(name, getattr(self, name), hint)

    def to_json(self) -> dict[str, Any]:
        """Plain values, nested settings as nested dictionaries."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: _plain(getattr(self, field.name)) for field in fields}

    @classmethod
    def from_names(cls, **values: Any) -> Self:
        """Settings by name, lists as tuples.

        Raises:
            InputError: A name that is no setting, or a value out of its range.
        """
        return cls.from_json(values)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`; older names are understood.

        What nested settings leave out stays as it is in the class that they are nested in.

        Raises:
            InputError: A name that is no setting, or a value out of its range.
        """
        usual = {field.name: _default(field) for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**cls._given(values, usual))

    def changed_by(self, values: Mapping[str, Any]) -> Self:
        """These settings with some of them as JSON has them."""
        there = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return type(self)(**there | self._given(values, there))

    @classmethod
    def _given(cls, values: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
        """The values of fields that JSON names, where the others are as they are."""
        values, hints = _renamed(dict(values), cls.moved), get_type_hints(cls)
        for name in values:
            if name not in there:
                raise unknown(f"setting of {cls.__name__}", name, there)
        return {name: _typed(value, hints[name], there[name]) for name, value in values.items()}


def plain(settings: Any) -> dict[str, Any]:
    """The settings of a dataclass as plain values, whether or not it is made from `Settings`."""
    values: dict[str, Any] = settings.to_json() if hasattr(settings, "to_json") else Settings.to_json(settings)
    return values


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
    """The settings that differ, each with its value in the folder and the one that is requested."""
    found = []
    for name in sorted({*there, *here}):
        old, new = there.get(name), here.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += difference(old, new)
        elif old != new:
            found.append(f"{name}: {old} in the folder, {new} requested")
    return found


def _renamed(values: dict[str, Any], moved: Mapping[str, str | None]) -> dict[str, Any]:
    """Settings by their names of today."""
    older = {name for name in moved.keys() & values.keys() if not _is_new(name, values[name], moved)}
    if not older:
        return values
    found = {name: value for name, value in values.items() if name not in older}
    for old, new in moved.items():
        if old not in older or new is None:
            continue
        *homes, name = new.split(".")
        place = found
        for home in homes:
            place = place.setdefault(home, {})
        place.setdefault(name, values[old])
    return found


def _is_new(name: str, value: Any, moved: Mapping[str, str | None]) -> bool:
    """Whether a name that is also that of a group of today holds that group already."""
    return isinstance(value, (dict, Settings)) and str(moved[name]).startswith(f"{name}.")


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.to_json()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _default(field: Any) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _typed(value: Any, hint: Any, there: Any) -> Any:
    """A value of JSON as a field holds it; nested settings on top of those that are there."""
    if isinstance(value, dict) and isinstance(there, Settings):
        return there.changed_by(value)
    if isinstance(there, Settings) and there.itself and not isinstance(value, Settings):
        return there.changed_by({there.itself: value})
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
    if value in (math.inf, -math.inf):
        raise InputError(f"{name} is {value}; it must be finite.")
