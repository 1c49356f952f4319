"""The checker of shapes and types in the test run (see addopts in pyproject.toml): beartype, once for each call.

jaxtyping's import hook wraps every function of attar in `jaxtyping.jaxtyped(typechecker=check)`. That binds the
arguments of each call and checks them twice, before the call and again with its result, which takes as long as the
small networks of the tests. `quicken` puts something in its place that checks arguments and result once. A function
whose annotations name shapes gets a scope for its axes; one without goes to beartype as it is. Where an axis is
computed from an argument (`" {count}"`), jaxtyping itself checks it.

beartype has four allowances. jaxtyping decorates methods one at a time, and beartype knows `Self` only in classes that
it decorates whole. An int is good enough for a float, as everywhere in Python. And settings, whose fields are keywords,
check themselves, as the verbs do: what they say about a wrong value is for people, and tested.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Self

import jaxtyping
from beartype import BeartypeConf, FrozenDict, beartype

_beartype = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any}), is_pep484_tower=True))
_jaxtyped = jaxtyping.jaxtyped


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with arguments and result checked, unless it checks them itself."""
    return function if _checks_itself(function) else _beartype(function)


UNWRAPPED = ("attar.verbs", "attar.core.notes")
"""Modules whose functions check themselves, or count the calls above them."""


def _checks_itself(function: Callable[..., Any]) -> bool:
    return function.__module__ in UNWRAPPED or (function.__name__ == "__init__" and _takes_only_keywords(function))


def _takes_only_keywords(function: Callable[..., Any]) -> bool:
    _, *parameters = inspect.signature(function).parameters.values()
    return bool(parameters) and all(p.kind is p.KEYWORD_ONLY for p in parameters)


def quicken() -> None:
    """Check what is imported from now on once for each call."""
    jaxtyping.jaxtyped = _quick


def _quick(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    return functools.partial(_quickly, typechecker)


def _quickly(typechecker: Callable[..., Any], thing: Any) -> Any:
    if isinstance(thing, (classmethod, staticmethod)):
        return type(thing)(_quickly(typechecker, thing.__func__))
    if isinstance(thing, property):
        return property(*(f and _quickly(typechecker, f) for f in (thing.fget, thing.fset, thing.fdel)), thing.__doc__)
    if not isinstance(thing, types.FunctionType):  # a dataclass, whose `__init__` is made, or what another has wrapped
        return _jaxtyped(typechecker=typechecker)(thing)
    if _checks_itself(thing):
        return thing
    hints = _hints_of(thing)
    shapes = [shape for hint in hints.values() for shape in _shapes_in(hint)]
    if any("{" in shape.dim_str for shape in shapes):
        return _jaxtyped(typechecker=typechecker)(thing)
    checked = typechecker(_with_hints(thing, hints))
    return _in_a_scope(checked) if shapes else checked


def _in_a_scope(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def scoped(*given: Any, **settings: Any) -> Any:
        with _jaxtyped("context"):
            return function(*given, **settings)

    return scoped


def _hints_of(function: types.FunctionType) -> dict[str, Any]:
    """Annotations as objects; one that names what is not there yet is not checked, as by jaxtyping."""
    found = {}
    for name, hint in function.__annotations__.items():
        if not isinstance(hint, str) and not any(isinstance(part, typing.ForwardRef) for part in _parts_of(hint)):
            found[name] = hint
            continue
        alone = types.SimpleNamespace(__annotations__={name: hint})
        try:
            found[name] = typing.get_type_hints(alone, function.__globals__, include_extras=True)[name]
        except Exception:  # whatever stands in it
            found[name] = Any
    return found


def _with_hints(function: types.FunctionType, hints: dict[str, Any]) -> types.FunctionType:
    """The same function with its annotations as objects."""
    if hints == function.__annotations__:
        return function
    twin = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    functools.update_wrapper(twin, function)
    del twin.__wrapped__
    twin.__kwdefaults__, twin.__annotations__ = function.__kwdefaults__, hints
    return twin


def _shapes_in(hint: Any) -> Iterator[Any]:
    return (part for part in _parts_of(hint) if inspect.isclass(part) and issubclass(part, jaxtyping.AbstractArray))


def _parts_of(hint: Any) -> Iterator[Any]:
    yield hint
    for part in typing.get_args(hint):
        yield from _parts_of(part)
    if isinstance(hint, list):  # the arguments of a Callable
        for part in hint:
            yield from _parts_of(part)
