"""Settings as frozen dataclasses of plain values: checked when they are made, and written to and read from JSON."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self, get_type_hints

from attar.core.checks import Check, bare, check_of, shown
from attar.core.checks import Range as Range
from attar.core.errors import InputError, unknown


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
    """What every settings dataclass inherits: checks of types and ranges on construction, and JSON both ways."""

    moved: ClassVar[Mapping[str, str | None]] = MappingProxyType({})
    """Where settings of older files are now, by dotted names; None for one that is no setting any more."""
    itself: ClassVar[str] = ""
    """Of nested settings: the one that stands for all, where a single value is given."""

    def __post_init__(self) -> None:
        check_fields(self)

    def to_json(self) -> dict[str, Any]:
        """Plain values, nested settings as nested dictionaries."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: _plain(getattr(self, field.name)) for field in fields}

    @classmethod
    def from_names(cls, **values: Any) -> Self:
        """Settings by name, lists as tuples.

        Raises:
            InputError: A name that is no setting, or a value of another type or out of its range.
        """
        return cls.from_json(values)

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """The inverse of `to_json`; older names are understood.

        What nested settings leave out stays as it is in the class that they are nested in.

        Raises:
            InputError: A name that is no setting, or a value of another type or out of its range.
        """
        usual = {field.name: _default(field) for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        given = cls._given(values, usual)
        for name, value in usual.items():
            if value is dataclasses.MISSING and name not in given:
                raise InputError(f"{name} of {cls.__name__} must be given.")
        return cls(**given)

    def changed_by(self, values: Any) -> Self:
        """These settings with some of them as JSON has them."""
        there = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return type(self)(**there | self._given(values, there))

    @classmethod
    def _given(cls, values: Any, there: Mapping[str, Any]) -> dict[str, Any]:
        """The values of fields that JSON names, where the others are as they are."""
        if not isinstance(values, Mapping):
            raise InputError(f"the settings of {cls.__name__} are {shown(values)}; they must be names with values.")
        family: type = cls
        values, hints = _renamed({str(name): value for name, value in values.items()}, cls.moved), hints_of(family)
        for name in values:
            if name not in there:
                raise unknown(f"setting of {cls.__name__}", name, there)
        return {name: _typed(value, hints[name], there[name]) for name, value in values.items()}


def check_fields(thing: Any) -> None:
    """See to every field of a dataclass, and hold plain numbers in it.

    Raises:
        InputError: A value is of another type, or out of its range.
    """
    family: type = type(thing)
    for name, check, usual in _checks(family):
        value = getattr(thing, name)
        if value is not usual:
            held = check(name, value)
            if held is not value:
                object.__setattr__(thing, name, held)


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
    """Settings by name, those of nested settings in their place.

    A nested name that another setting has too is told with those of the settings that it is nested in: linear.epochs.
    The name by which settings are chosen is told as theirs: `loss hinge`, not `name hinge`.
    """
    found = list(_paths(values))
    counts = Counter(path[-1] for path, _ in found)
    for path, value in found:
        yield path[-1] if counts[path[-1]] == 1 else ".".join(path), value


def _paths(values: dict[str, Any], *outer: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _paths(value, *outer, name)
        else:
            yield (outer if outer and name == "name" else (*outer, name)), value


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
            if not isinstance(place, dict):
                raise InputError(f"{old} is now {new}, but {home} is {shown(place)}. Give {new} only.")
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
    return str(value) if isinstance(value, Path) else value


def _default(field: Any) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _typed(value: Any, hint: Any, there: Any) -> Any:
    """A value of JSON as a field holds it; nested settings on top of those that are there."""
    if isinstance(value, dict) and isinstance(there, Settings):
        return there.changed_by(value)
    if isinstance(there, Settings) and there.itself and not isinstance(value, Settings):
        return there.changed_by({there.itself: value})
    nested = bare(hint)
    if isinstance(value, dict) and isinstance(nested, type) and issubclass(nested, Settings):
        return nested.from_json(value)
    return tuple(value) if isinstance(value, list) else value


PLAIN = (str, int, float, list, tuple, dict)
"""Types that JSON has, which stand for nested settings by a name or by their fields."""


@cache
def hints_of(family: type) -> dict[str, Any]:
    """The types of a class's settings by name, with all that is noted on them."""
    return get_type_hints(family, include_extras=True)


def _by_name(check: Check, field: Any) -> Check:
    """A check that takes a name for nested settings of which one value stands for all."""
    usual = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    if not isinstance(usual, Settings) or not usual.itself:
        return check
    return lambda name, value: check(name, _typed(value, None, usual) if isinstance(value, PLAIN) else value)


@cache
def _checks(family: type) -> tuple[tuple[str, Check, Any], ...]:
    """What sees to each field, and its usual value, which need not be seen to again: settings are made often."""
    hints = hints_of(family)
    found = []
    for field in dataclasses.fields(family):
        check = _by_name(check_of(field.name, hints[field.name]), field)
        plain = field.default is not dataclasses.MISSING and check(field.name, field.default) is field.default
        found.append((field.name, check, field.default if plain else dataclasses.MISSING))
    return tuple(found)
