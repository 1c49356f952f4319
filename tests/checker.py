"""The checker of shapes and types in the test run (see addopts in pyproject.toml): beartype with four allowances.

jaxtyping decorates methods one at a time, and beartype knows `Self` only in classes that it decorates whole. An int
is good enough for a float, as everywhere in Python. And settings, whose fields are keywords, check themselves, as the
verbs do: what they say about a wrong value is for people, and tested.
"""

import inspect
from collections.abc import Callable
from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype

_beartype = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any}), is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    if function.__module__ == "attar.verbs" or (function.__name__ == "__init__" and _takes_only_keywords(function)):
        return function
    return _beartype(function)


def _takes_only_keywords(function: Callable[..., Any]) -> bool:
    _, *parameters = inspect.signature(function).parameters.values()
    return bool(parameters) and all(p.kind is p.KEYWORD_ONLY for p in parameters)
