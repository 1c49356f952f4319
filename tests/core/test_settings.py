import functools
import json
import math
from dataclasses import FrozenInstanceError, dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch

from attar.core import settings as settings_module
from attar.core.divergence import step_sizes
from attar.core.errors import InputError
from attar.core.registry import METHODS
from attar.core.settings import Range, Settings, Words, difference
from attar.images.condense.datadam import DataDAM
from attar.images.protocols import Protocol


@dataclass(frozen=True, kw_only=True)
class Inner(Settings):
    depth: Annotated[int, Range(1, 12)] | None = None
    kind: Literal["plain", "fancy"] = "plain"


@dataclass(frozen=True, kw_only=True)
class Outer(Settings):
    count: Annotated[int, Range(1)] = 1
    weight: Annotated[float, Range(high=0.5)] = 0.0
    mode: Literal["slow", "fast"] | None = None
    flag: bool = False
    text: str = "some"
    note: str | None = None
    place: Path | None = None
    thing: Annotated[Any, Words()] = None
    cuts: tuple[float, ...] = ()
    pair: tuple[int, float] = (1, 0.5)
    lr: Annotated[float, Range(0)] = 0.1
    network_lr: float | None = None
    width: Annotated[int, Range(1)] | None = None
    seed: int = 0
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


@dataclass(frozen=True, kw_only=True)
class Physical(Settings):
    density: Annotated[float, Range(1.0, 1e30)] = 1e15
    length: Annotated[float, Range(1e-6, 1e30)] | None = None
    open: Annotated[float, Range(0)] = 0.0
    lr: Annotated[float, Range(0, 1e30)] = 0.1
    count: Annotated[int, Range(1, 10**15)] = 1


def test_an_upper_end_that_is_named_may_lie_beyond_that_of_other_numbers():
    """Numbers of physics are as large as their units make them; step sizes and whole numbers are not."""
    assert Physical(density=1e30, length=1e29).density == 1e30
    for values, sentence in (
        ({"density": 2e30}, "density is 2e+30; it must be from 1 to 1e+30."),
        ({"length": 0.0}, "length is 0.0; it must be from 1e-06 to 1e+30."),
        ({"open": 2e12}, "open is 2000000000000.0; it must be at most 1e+12."),
        ({"lr": 2e6}, "lr is 2000000.0; it must be"),
        ({"count": 10**10}, "count is 10000000000; it must be"),
    ):
        with pytest.raises(InputError) as refusal:
            Physical(**values)
        assert str(refusal.value).startswith(sentence)


def test_settings_left_out_of_json_have_their_defaults():
    assert Outer.from_json({"inner": {"depth": 2}}) == Outer(inner=Inner(depth=2))


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: Outer(count=0), "count is 0; it must be at least 1."),
        (lambda: Outer(weight=0.6), "weight is 0.6; it must be at most 0.5."),
        (lambda: Outer(weight=math.nan), "weight is nan; it must be finite."),
        (lambda: Outer(weight=-math.inf), "weight is -inf; it must be finite."),
        (lambda: Outer(count="many"), "count is 'many'; it must be a whole number."),
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
        (lambda: Outer(names="a"), "names is 'a'; it must be a tuple."),
        (lambda: replace(Outer(), count=-1), "count is -1; it must be at least 1."),
        (lambda: Outer.from_json({"inner": {"depth": 40}}), "depth is 40; it must be from 1 to 12."),
        (
            lambda: Outer.from_json({"coumt": 3}),
            "unknown setting of Outer 'coumt'; did you mean 'count'? Known: count, cuts, flag, inner, lr, mode, names, "
            "network_lr, note, pair, place, seed, sizes, text, thing, weight, width.",
        ),
    ],
)
def test_a_wrong_value_is_refused_when_settings_are_made(make, sentence):
    with pytest.raises(InputError) as refusal:
        make()
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"count": 1.0}, "count is 1.0; it must be a whole number."),
        ({"count": True}, "count is True; it must be a whole number."),
        ({"count": "1"}, "count is '1'; it must be a whole number."),
        ({"count": None}, "count is None; it must be a whole number."),
        ({"count": (1,)}, "count is (1,); it must be a whole number."),
        ({"count": np.array([1])}, "count is array([1]); it must be a whole number."),
        ({"count": np.float32(1)}, "count is 1.0; it must be a whole number."),
        ({"count": torch.tensor([1])}, "count is tensor([1]); it must be a whole number."),
        (
            {"count": torch.empty((), device="meta")},
            "count is tensor(..., device='meta', size=()); it must be a whole number.",
        ),
        ({"count": 10**20}, "count is 100000000000000000000; it must be at most 1e+09."),
        ({"count": 10**5000}, "count is a very long number; it must be at most 1e+09."),
        ({"count": -(10**80)}, "count is -" + "1" + "0" * 58 + "...; it must be at least 1."),
        ({"weight": True}, "weight is True; it must be a number."),
        ({"weight": "0.1"}, "weight is '0.1'; it must be a number."),
        ({"weight": 1j}, "weight is 1j; it must be a number."),
        ({"weight": None}, "weight is None; it must be a number."),
        ({"weight": Decimal("0.1")}, "weight is Decimal('0.1'); it must be a number."),
        ({"weight": np.float32("nan")}, "weight is nan; it must be finite."),
        ({"weight": torch.tensor(math.inf)}, "weight is inf; it must be finite."),
        ({"weight": np.bool_(True)}, "weight is True; it must be a number."),
        ({"weight": -1e308}, "weight is -1e+308; it must be at least -1e+12."),
        ({"lr": 1e308}, "lr is 1e+308; it must be at most 1000000."),
        ({"lr": 1000001}, "lr is 1000001; it must be at most 1000000."),
        ({"lr": -1e-9}, "lr is -1e-09; it must be at least 0."),
        ({"lr": 10**400}, "lr is 1" + "0" * 59 + "...; it must be at most 1000000."),
        ({"network_lr": 2e6}, "network_lr is 2000000.0; it must be at most 1000000."),
        ({"network_lr": "fast"}, "network_lr is 'fast'; it must be a number."),
        ({"width": 10**20}, "width is 100000000000000000000; it must be at most 100000."),
        ({"seed": 2**63}, "seed is 9223372036854775808; it must be at most 9.22337e+18."),
        ({"flag": 1}, "flag is 1; it must be true or false."),
        ({"flag": "yes"}, "flag is 'yes'; it must be true or false."),
        ({"flag": None}, "flag is None; it must be true or false."),
        ({"text": 3}, "text is 3; it must be text."),
        ({"text": None}, "text is None; it must be text."),
        ({"text": b"some"}, "text is b'some'; it must be text."),
        ({"text": "a\0b"}, "text is 'a\\x00b'; it must be text without NUL, in UTF-8."),
        ({"note": "a\udcffb"}, "note is 'a\\udcffb'; it must be text without NUL, in UTF-8."),
        ({"note": "\ud800"}, "note is '\\ud800'; it must be text without NUL, in UTF-8."),
        ({"note": False}, "note is False; it must be text."),
        ({"note": "x" * 10**6 + "\0"}, "note is '" + "x" * 59 + "...; it must be text without NUL, in UTF-8."),
        ({"place": "a\0"}, "place is 'a\\x00'; it must be text without NUL, in UTF-8."),
        ({"place": 3}, "place is 3; it must be text."),
        ({"thing": "a\0"}, "thing is 'a\\x00'; it must be text without NUL, in UTF-8."),
        ({"thing": math.nan}, "thing is nan; it must be finite."),
        ({"mode": 3}, "unknown mode '3'. Known: fast, slow."),
        ({"mode": ["slow"]}, "unknown mode \"['slow']\"; did you mean 'slow'? Known: fast, slow."),
        ({"cuts": (0.5, math.nan)}, "number 2 of cuts is nan; it must be finite."),
        ({"cuts": 0.5}, "cuts is 0.5; it must be a tuple."),
        ({"pair": (1, 2, 3)}, "pair is (1, 2, 3); it must be a tuple of 2."),
        ({"pair": (0.5, 1)}, "number 1 of pair is 0.5; it must be a whole number."),
        ({"names": ("a", 3)}, "number 2 of names is 3; it must be text."),
        ({"inner": None}, "inner is None; it must be of type Inner."),
        ({"inner": {"depth": 2}}, "inner is {'depth': 2}; it must be of type Inner."),
    ],
)
def test_every_type_is_checked(values, sentence):
    with pytest.raises(InputError) as refusal:
        Outer(**values)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    "name, given, held",
    [
        ("count", np.int64(3), 3),
        ("count", np.uint8(3), 3),
        ("count", torch.tensor(3), 3),
        ("count", np.array(3), 3),
        ("weight", np.float32(0.25), 0.25),
        ("weight", np.float64(0.25), 0.25),
        ("weight", np.int8(-1), -1),
        ("weight", torch.tensor(0.25, dtype=torch.bfloat16, requires_grad=True), 0.25),
        ("weight", Fraction(1, 4), 0.25),
        ("weight", -1, -1),
        ("flag", np.bool_(True), True),
        ("flag", torch.tensor(True), True),
        ("text", np.str_("a"), "a"),
        ("text", Path("a") / "b", "a/b"),
        ("mode", np.str_("fast"), "fast"),
        ("place", "a/b", Path("a/b")),
        ("sizes", (np.int64(3), 2), (3, 2)),
        ("sizes", torch.Size([3, 2]), (3, 2)),
        ("cuts", (np.float32(0.5), 1), (0.5, 1)),
        ("lr", np.float64(1e6), 1e6),
        ("seed", -(2**63) + 1, -(2**63) + 1),
    ],
)
def test_numbers_of_other_libraries_are_held_as_plain_ones(name, given, held):
    settings = Outer(**{name: given})
    assert getattr(settings, name) == held and type(getattr(settings, name)) is type(held)
    assert Outer.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(
    "values", [[], [1], 3, None, "text", {"inner": [1]}, {"inner": "x"}, {3: 4}, {"inner": {3: 4}}]
)
def test_what_is_no_table_of_settings_is_refused(values):
    with pytest.raises(InputError):
        Outer.from_json(values)


def test_what_must_be_given_is_named():
    with pytest.raises(InputError, match=r"^epochs of Protocol must be given\.$"):
        Protocol.from_json({"name": "own"})


@pytest.mark.parametrize("name", METHODS)
def test_step_sizes_have_an_end(name):
    settings = METHODS[name].load()
    sizes = [flag.path for flag in step_sizes(settings)]
    for path in sizes:
        for value in (1e308, 1.1e6, math.nan, math.inf, -1e-9, True, "1"):
            with pytest.raises(InputError):
                settings.from_json(functools.reduce(lambda inner, name: {name: inner}, reversed(path), value))


def test_a_class_is_looked_at_once():
    DataDAM()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings_module, "get_type_hints", None)
        assert DataDAM(ipc=3) == replace(DataDAM(), ipc=3)


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
