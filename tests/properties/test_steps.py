"""Whatever settings near those of `small.py` a method runs with, it ends in one line, or in a result that is finite."""

import functools
import math
import typing
import warnings
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import attar
import small
from attar.core.checks import Range, bare
from attar.core.errors import InputError
from attar.core.flags import flags_of
from fuzzing import is_one_line, tried
from small import SMALL, VARIANTS, kind_of, method_name, method_of

ENGINE = attar.Engine(device="cpu", compile="off", quiet=True)
ENTRIES = [*SMALL, *VARIANTS]
SLOW = ("conv", "dc", "dsa", "edf", "hello", "ast")
"""Methods that take a second with other settings."""
EACH = 4


def near(hint: Any, value: Any) -> list[Any]:
    """Other values of a setting that cost no more time by far: half and twice a number, the ends of its range."""
    options = [hint] if typing.get_origin(bare(hint)) is None else list(get_args(bare(hint)))
    if get_origin(bare(hint)) is Literal:
        return [option for option in get_args(bare(hint)) if option != value]
    found: list[Any] = []
    for option in options:
        notes = [note for note in get_args(option)[1:] if isinstance(note, Range)] or [Range()]
        found += _near(bare(option), notes[0], value)
    return found


def _near(kind: Any, allowed: Range, value: Any) -> list[Any]:
    if kind is bool:
        return [not value]
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    ends = [end for end in (allowed.low, allowed.high) if math.isfinite(end)]
    if kind is float and not isinstance(value, tuple):
        usual = 0.1 if value is None else value
        around = [0.0, usual / 2, 2 * usual, 10 * usual, 1000 * usual, 1e6, 1e-12, 1e-300]
        return [*ends, *(one for one in around if allowed.low <= one <= allowed.high)]
    if kind is int and not isinstance(value, tuple):
        usual = 2 if value is None else value
        around = [usual - 1, usual + 1, 1, 2, 3, 0]
        return [one for one in around if allowed.low <= one <= min(allowed.high, 1000)]
    return []


def neighbours(entry: str) -> Any:
    """One to three settings of an entry changed, as plain values; none where there is nothing to change."""
    method = method_of(entry)
    choices = [(flag.path, near(flag.hint, _at(method, flag.path))) for flag in flags_of(method)]
    one = [st.tuples(st.just(path), st.sampled_from(values)) for path, values in choices if values]
    return st.lists(st.one_of(one), min_size=1, max_size=3).map(nested) if one else st.just({})


def nested(changes: list[Any]) -> dict[str, Any]:
    """Values by their paths as nested tables."""
    found: dict[str, Any] = {}
    for path, value in changes:
        functools.reduce(lambda place, home: place.setdefault(home, {}), path[:-1], found)[path[-1]] = value
    return found


def _at(settings: Any, path: tuple[str, ...]) -> Any:
    return functools.reduce(getattr, path, settings)


def check_result(result: Any) -> None:
    """Whether what a method learned is finite, and can be told."""
    for name, tensor in getattr(result, "learned", {}).items():
        assert torch.isfinite(tensor).all() if tensor.is_floating_point() else True, name
    assert result.summary


@pytest.mark.parametrize("scenario", ENTRIES)
def test_a_method_ends_in_a_line_or_in_finite_values(scenario):
    kind = kind_of(scenario)

    @tried(1 if method_name(scenario) in SLOW else EACH)
    @given(neighbours(scenario))
    def check(changes):
        try:
            method = method_of(scenario).changed_by(changes)
            result = small.run(method, kind, engine=ENGINE)
        except InputError as error:
            assert is_one_line(error)
        else:
            check_result(result)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check()
