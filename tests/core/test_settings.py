import json
import math
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Annotated, Literal

import pytest

from attar.core.errors import InputError
from attar.core.registry import METHODS
from attar.core.settings import Range, Settings, difference


@dataclass(frozen=True, kw_only=True)
class Inner(Settings):
    depth: Annotated[int, Range(1, 12)] | None = None
    kind: Literal["plain", "fancy"] = "plain"


@dataclass(frozen=True, kw_only=True)
class Outer(Settings):
    count: Annotated[int, Range(1)] = 1
    weight: Annotated[float, Range(high=0.5)] = 0.0
    mode: Literal["slow", "fast"] | None = None
    names: tuple[str, ...] = ("a", "b")
    sizes: Annotated[int, Range(1)] | tuple[Annotated[int, Range(1)], ...] = 1
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    "settings",
    [
        Outer(),
        Outer(sizes=(3, 1, 2)),
        Outer(count=7, weight=-3.25, mode="fast", names=(), inner=Inner(depth=3, kind="fancy")),
    ],
)
def test_settings_are_the_same_after_a_trip_through_json(settings):
    assert Outer.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize("name", METHODS)
def test_the_settings_of_every_method_survive_json(name):
    settings = METHODS[name].load()()
    assert type(settings).from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_settings_left_out_of_json_have_their_defaults():
    assert Outer.from_json({"inner": {"depth": 2}}) == Outer(inner=Inner(depth=2))


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: Outer(count=0), "count is 0; it must be at least 1."),
        (lambda: Outer(weight=0.6), "weight is 0.6; it must be at most 0.5."),
        (lambda: Outer(weight=math.nan), "weight is nan; it must be at most 0.5."),
        (lambda: Outer(weight=-math.inf), "weight is -inf; it must be finite."),
        (lambda: Outer(count="many"), "count is many; it must be at least 1."),
        (lambda: Inner(depth=0), "depth is 0; it must be from 1 to 12."),
        (lambda: Inner(depth=13), "depth is 13; it must be from 1 to 12."),
        (lambda: Inner(kind="fanci"), "unknown kind 'fanci'; did you mean 'fancy'? Known: fancy, plain."),
        (lambda: Outer(mode="fats"), "unknown mode 'fats'; did you mean 'fast'? Known: fast, slow."),
        (lambda: Outer(sizes=0), "sizes is 0; it must be at least 1."),
        (lambda: Outer(sizes=2.5), "sizes is 2.5; it must be a whole number."),
        (lambda: Outer(sizes=None), "sizes is None; it must be a whole number."),
        (lambda: Outer(sizes=(3, 0)), "number 2 of sizes is 0; it must be at least 1."),
        (lambda: Outer(sizes=(3, True)), "number 2 of sizes is True; it must be a whole number."),
        (lambda: Outer(sizes=[3, 2]), "sizes is [3, 2]; it must be a tuple."),
        (lambda: Outer(names="a"), "names is a; it must be a tuple."),
        (lambda: replace(Outer(), count=-1), "count is -1; it must be at least 1."),
        (lambda: Outer.from_json({"inner": {"depth": 40}}), "depth is 40; it must be from 1 to 12."),
        (
            lambda: Outer.from_json({"coumt": 3}),
            "unknown setting of Outer 'coumt'; did you mean 'count'? Known: count, inner, mode, names, sizes, weight.",
        ),
    ],
)
def test_a_wrong_value_is_refused_when_settings_are_made(make, sentence):
    with pytest.raises(InputError) as refusal:
        make()
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("depth", [None, 1, 12])
def test_a_range_holds_both_its_ends_and_none_where_allowed(depth):
    assert Inner(depth=depth).depth == depth


def test_settings_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Outer().count = 3


def test_the_difference_of_two_settings_names_each_that_differs():
    there, here = Outer(count=2).to_json(), Outer(inner=Inner(depth=4)).to_json()
    assert difference(there, here) == ["count: 2 in the folder, 1 requested", "depth: None in the folder, 4 requested"]
    assert difference(there, there) == []
    assert difference({"a": 1}, {}) == ["a: 1 in the folder, None requested"]
