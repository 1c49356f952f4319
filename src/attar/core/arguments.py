"""Arguments of public functions: one that is wrong or missing is told on one line, with the nearest right name."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from attar.core.errors import InputError, unknown

F = TypeVar("F", bound=Callable[..., Any])
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def with_checked_arguments(function: F) -> F:
    """A function that refuses wrong arguments by an `InputError`, before anything is done.

    Names that it passes on (`**settings`) are left to `check_names`.
    """
    parameters = inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        _check(function, parameters, len(given), named)
        return function(*given, **named)

    return cast(F, call)


def check_names(function: Callable[..., Any], named: Iterable[str], further: Iterable[str]) -> None:
    """Check the names that a function passes on.

    Args:
        function: The function.
        named: Names that it was given beside its own.
        further: Names that what they are passed on to knows.

    Raises:
        InputError: One is unknown; the message has the nearest of all that are known, those of the function too.
    """
    further = {*further}
    for name in named:
        if name not in further:
            own = {p.name for p in inspect.signature(function).parameters.values() if p.kind in BY_NAME}
            raise unknown(f"argument of {_spoken(function)}", name, own | further)


def _check(
    function: Callable[..., Any], parameters: Mapping[str, inspect.Parameter], count: int, named: Mapping[str, Any]
) -> None:
    """Check that each argument is one that the function takes, once, and that none is missing."""
    own = {name: one for name, one in parameters.items() if one.kind in BY_NAME}
    if len(own) == len(parameters):
        check_names(function, named, own)
    places = [name for name, one in own.items() if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    if count > len(places):
        told = ", ".join(places)
        raise InputError(
            f"{_spoken(function)} takes {told} without a name, and everything else by name, as in out=...."
        )
    twice = [name for name in places[:count] if name in named]
    if twice:
        raise InputError(f"{_spoken(function)} is given {twice[0]} twice, with and without its name. Give it once.")
    needed = [name for name, one in own.items() if one.default is inspect.Parameter.empty]
    missing = [name for name in needed if name not in named and name not in places[:count]]
    if missing:
        words = " and ".join(missing)
        near = difflib.get_close_matches(missing[0], named.keys() - own.keys(), n=1)
        raise InputError(f"{_spoken(function)} needs {words}{f', not {near[0]}' if near else ''}. Give {words}.")


def _spoken(function: Callable[..., Any]) -> str:
    """A function by its public name."""
    return f"{function.__module__.removesuffix('.verbs')}.{function.__name__}"
