"""Whatever settings are given, there is one line of refusal, or an object that says the same after a trip to disk."""

import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.bench.face import Face
from attar.core.errors import InputError
from attar.core.kinds import built_in
from attar.core.machine import Engine
from attar.core.registry import METHODS, entries_in
from attar.core.settings import Range, Settings, _checks
from fuzzing import families_in, hostile, hostile_plain, is_one_line, leaves, made, tried, valued


def family_of(table):
    """The class of a table, of which some are settings with another default."""
    return table if isinstance(table, type) else type(table)


def houses():
    """Every settings class: methods, tasks, readings, scorings, tables, the machine, and what lies in them."""
    roots = [entry.load() for entry in METHODS.values()]
    for kind in built_in().values():
        roots += [kind.task(verb) for verb in kind.tasks] + [kind.read()] + ([kind.scores()] if kind.scoring else [])
    roots += [family_of(entry.load()) for entry in entries_in("attar.bench", "tables.json")]
    return families_in(*dict.fromkeys([*roots, Engine, Face]))


FAMILIES = {f"{family.__module__.removeprefix('attar.')}.{family.__qualname__}": family for family in houses()}
EACH = -(-6600 // len(FAMILIES))
"""Examples of each class."""


def check_made(settings):
    """Whether every value is what its class says, and the whole survives JSON."""
    for name, value, hint in leaves(settings):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not takes_anything(hint):
            assert type(value) in (int, float) and math.isfinite(value), name
            most = 1e6 if "lr" in name.split("_") else 2**63 if "seed" in name else max(1e12, *named_ends(hint))
            assert abs(value) <= most, name
        if isinstance(value, str):
            assert "\0" not in value and value == value.encode().decode()
    for name, check, _ in _checks(type(settings)):
        assert check(name, getattr(settings, name)) is getattr(settings, name)
    if all(is_plain(value) for _, value, _ in leaves(settings)):
        text = json.dumps(settings.to_json(), allow_nan=False)
        assert type(settings).from_json(json.loads(text)) == settings


def takes_anything(hint):
    """Whether a type allows an object of any kind, wherever in it."""
    return hint is Any or any(map(takes_anything, get_args(hint)))


def named_ends(hint):
    """The finite upper ends that the notes of a type name, wherever in it."""
    if isinstance(hint, Range):
        return [hint.high] if hint.high < math.inf else [0]
    parts = [*get_args(hint), *getattr(hint, "__metadata__", ())]
    return [0, *(end for part in parts for end in named_ends(part))]


def is_plain(value):
    return value is None or isinstance(value, (bool, int, float, str)) or hasattr(value, "__fspath__")


@pytest.mark.parametrize("name", FAMILIES)
def test_settings_are_right_or_refused(name):
    family = FAMILIES[name]

    @tried(EACH)
    @given(values=valued(family), door=st.sampled_from(["made", "json", "changed"]))
    def check(values, door):
        try:
            if door == "made":
                settings = made(family, values)
            elif door == "json":
                settings = family.from_json(values)
            else:
                settings = family.from_json(values).changed_by(values)
        except InputError as error:
            assert is_one_line(error)
        else:
            check_made(settings)

    check()


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.moved])
def test_older_names_are_read_or_refused(name):
    family = FAMILIES[name]
    names = sorted({*family.moved, *family.__dataclass_fields__})

    @tried(30)
    @given(st.dictionaries(st.sampled_from(names), hostile_plain, max_size=3))
    def check(values):
        try:
            settings = family.from_json(values)
        except InputError as error:
            assert is_one_line(error)
        else:
            check_made(settings)

    check()


@tried(200)
@given(whole=hostile, name=st.sampled_from(list(FAMILIES)))
def test_what_is_no_table_of_settings_is_refused(whole, name):
    family: type[Settings] = FAMILIES[name]
    try:
        settings = family.from_json(whole)
    except InputError as error:
        assert is_one_line(error)
    else:
        check_made(settings)
