"""What the type of a setting says: in words, as choices and ranges, and how the command line reads it."""

import math
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from attar.core.checks import Range, bare
from attar.core.settings import Settings

_COUNTS = {2: "two", 3: "three", 4: "four"}
_TYPES = {int: "whole number", float: "number", bool: "yes or no", str: "text", Any: "text", Path: "path"}


def type_words(hint: Any) -> str:
    """A type in words: "whole number, at least 1"; "avg, max or none"."""
    options, note = options_of(hint), range_of(hint)
    for item in items_of(hint):
        choices, note = choices_of(item), range_of(item)
        if choices:
            return f"any of {', '.join(map(str, choices))}"
        several = _how_many(options[0]) if len(options) == 1 else "one or several"
        return f"{several} {_type_name(item)}s{f', each {note}' if note else ''}"
    if len(options) > 1:
        return " or ".join(map(type_words, options))
    if choices_of(hint):
        return _listed([str(choice) for choice in choices_of(hint)])
    word = _type_name(options[0])
    return f"{word}{', ' if str(note).startswith('at') else ' '}{note}" if note else word


def _how_many(hint: Any) -> str:
    """How many things a tuple takes, in words."""
    inside = get_args(bare(hint))
    return "several" if inside[1:] == (...,) else _COUNTS.get(len(inside), str(len(inside)))


def kind_of_type(hint: Any) -> str:
    """A type in one or two words, without range and choices: what a flag of one name has everywhere."""
    options = [bare(option) for option in options_of(hint)]
    for item in items_of(hint):
        return kind_of_type(item) if one_or_more(hint) else f"several: {kind_of_type(item)}"
    return "choice" if get_origin(options[0]) is Literal else type_words(options[0])


def article(hint: Any) -> str:
    """A type in words, as the object of a sentence."""
    words = type_words(hint)
    return (
        words if choices_of(hint) or words.startswith(("one ", "several", "text", *_COUNTS.values())) else f"a {words}"
    )


def in_range(hint: Any, value: Any) -> bool:
    """Whether a value, or each of several, is finite and within the range that its type has."""
    allowed = range_of(hint) or next((range_of(item) for item in items_of(hint)), None)
    numbers = [one for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, (int, float))]
    if any(isinstance(one, float) and not math.isfinite(one) for one in numbers):
        return False
    return allowed is None or all(allowed.low <= one <= allowed.high for one in numbers)


def notes_of(hint: Any) -> tuple[Any, ...]:
    """What is noted on a type by `Annotated`."""
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def options_of(hint: Any) -> list[Any]:
    """The types of a union, without None; or the one type."""
    plain = bare(hint)
    union = get_origin(plain) in (typing.Union, types.UnionType)
    return [option for option in get_args(plain) if option is not type(None)] if union else [hint]


def choices_of(hint: Any) -> tuple[Any, ...]:
    """The values of a `Literal`, or of what a tuple holds; none of any other type."""
    plain = bare(options_of(hint)[0])
    if get_origin(plain) is tuple:
        return choices_of(get_args(plain)[0])
    return get_args(plain) if get_origin(plain) is Literal else ()


def items_of(hint: Any) -> list[Any]:
    """The types of what a tuple holds, for each tuple that a type may be."""
    return [get_args(bare(option))[0] for option in options_of(hint) if get_origin(bare(option)) is tuple]


def range_of(hint: Any) -> Range | None:
    """The range that is noted on a type, if there is one."""
    notes = [note for option in (hint, *options_of(hint)) for note in notes_of(option)]
    return next((note for note in notes if isinstance(note, Range)), None)


def takes_none(hint: Any) -> bool:
    """Whether None is a value of a type."""
    return type(None) in get_args(bare(hint)) or bare(hint) is Any


def takes_text(hint: Any) -> bool:
    """Whether a type takes any word, or one of some words."""
    return any(bare(option) in (str, Any, Path) for option in options_of(hint)) or bool(choices_of(hint))


def takes_several(hint: Any) -> bool:
    """Whether a type may be a tuple."""
    return any(get_origin(bare(option)) is tuple for option in options_of(hint))


def is_bool(hint: Any) -> bool:
    """Whether a type is yes or no."""
    return [bare(option) for option in options_of(hint)] == [bool]


def readable(hint: Any) -> Any:
    """The type as tyro is asked for it: objects by their words."""
    plain = bare(hint)
    several = get_origin(plain) is tuple and get_args(plain)[1:] == (...,) and bare(get_args(plain)[0]) is Any
    if several or one_or_more(hint):
        return tuple[str, ...]
    return str | None if plain is Any else hint


def one_or_more(hint: Any) -> bool:
    """Whether a type is an object by its words, or several of them: one alone is held as it is."""
    options = list(map(bare, options_of(hint)))
    return Any in options and any(get_origin(option) is tuple for option in options)


def nested_in(hint: Any) -> type[Settings] | None:
    """The settings class that a type is, if it is one."""
    plain = bare(options_of(hint)[0])
    return plain if isinstance(plain, type) and issubclass(plain, Settings) else None


def _type_name(hint: Any) -> str:
    plain = bare(hint)
    return _TYPES.get(plain) or str(getattr(plain, "__name__", plain))


def _listed(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
