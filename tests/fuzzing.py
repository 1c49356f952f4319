"""What the property tests draw: values of every type, right and wrong ones, and files with something changed in them.

The draws are the same in every run. `ATTAR_EXAMPLES=100` in the environment makes a hundred times as many.
"""

import copy
import dataclasses
import functools
import json
import math
import os
import types
import typing
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from attar.core.settings import Range, Settings, hints_of

TIMES = float(os.environ.get("ATTAR_EXAMPLES", "1"))
"""How many times as many examples as usual."""


PHASES = (Phase.explicit, Phase.generate, *([] if "ATTAR_AS_FOUND" in os.environ else [Phase.shrink]))
"""Smaller inputs are looked for where one fails, which takes a while; not with `ATTAR_AS_FOUND=1`."""


def tried(count: int) -> Callable[[Any], Any]:
    """So many examples of a test, the same ones in every run; the smallest that fails is looked for by hand or here."""
    return settings(
        max_examples=max(1, round(count * TIMES)),
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=False,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )


# ------------------------------------------------------------------------------------------------------- hostile values

NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 12, 13, 100, 10**6, 10**6 + 1, 10**9, 10**20, 10**400, 2**31, 2**63, -(2**63), 2**64),
    *(
        0.0,
        -0.0,
        0.5,
        1.0,
        1.5,
        -0.1,
        1e-300,
        5e-324,
        1e6,
        1.1e6,
        1e12,
        1e38,
        1e39,
        1e308,
        math.inf,
        -math.inf,
        math.nan,
    ),
)
TEXTS = (
    *(
        "",
        " ",
        "x",
        "0",
        "1",
        "1e3",
        "nan",
        "none",
        "None",
        "null",
        "true",
        "auto",
        "convnet",
        "convnet:",
        "gcn:width=4",
    ),
    *(
        "convnet:width=0",
        "convnet:wdth=8",
        "convnet:width=99999999999999999999",
        ":",
        "=",
        ",",
        ":=,",
        "a=b",
        "--",
        "-x",
    ),
    *(
        "~",
        "~/x",
        "~nobody/x",
        "/",
        ".",
        "..",
        "../..",
        "a/b",
        "/dev/null",
        "C:\\x",
        "con",
        "*",
        "%s",
        "{}",
        "{0}",
        "$HOME",
    ),
    *(
        "a\0b",
        "\0",
        "\ud800",
        "a\udcff",
        "ünï",
        "數據",
        "🙂",
        "\u202e",
        "\ufeff",
        "a\nb",
        "\r",
        "\t",
        "\x1b[31m",
        "'",
        '"',
        "`",
    ),
    *("<script>alert(1)</script>", "x" * 300, "x" * 100_000, "None" * 999, "9" * 5000),
)
PLAIN = (
    *NUMBERS,
    *TEXTS,
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    [1, 2],
    ["a"],
    [1.5, "a"],
    {"a": 1},
    {"": {}},
    [[1, 2]] * 3,
)
"""What JSON can hold."""
OBJECTS = (
    *(np.int64(3), np.float32(0.5), np.float64(2), np.bool_(True), np.str_("x"), np.float16("nan"), np.uint64(2**63)),
    *(np.array(3), np.array([1, 2]), np.array([]), np.array("x"), np.datetime64("2020"), np.complex64(1j)),
    *(torch.tensor(2), torch.tensor(0.5), torch.tensor(True), torch.tensor([1.0]), torch.tensor(math.nan)),
    *(
        torch.empty((), device="meta"),
        torch.Size([1, 2]),
        (),
        (1,),
        (1, 2),
        ("a",),
        (None,),
        (1, "a"),
        ((1,),),
        (math.nan,),
    ),
    *(b"x", 1j, Fraction(1, 3), Path("x"), Path("~/x"), {1: 2}, {1, 2}, object(), int, print, range(3), iter([]), ...),
)
"""What Python can be given besides."""


def deep(depth: int) -> Any:
    """Lists in lists."""
    return functools.reduce(lambda inside, _: [inside], range(depth), 1)


hostile_plain = st.sampled_from([*PLAIN, deep(50)]).map(copy.deepcopy)
hostile = st.one_of(hostile_plain, st.sampled_from(OBJECTS), st.floats(), st.integers(), st.text(max_size=5))


# ----------------------------------------------------------------------------------------------------- settings classes


def families_in(*roots: type) -> list[type]:
    """These settings classes and those of the fields in them."""
    found: dict[type, None] = {}
    waiting = list(roots)
    while waiting:
        family = waiting.pop(0)
        if family not in found:
            found[family] = None
            waiting += [inner for hint in hints_of(family).values() for inner in _settings_in(hint)]
    return list(found)


def _settings_in(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and issubclass(hint, Settings):
        yield hint
    for inner in get_args(hint):
        yield from _settings_in(inner)


def right(field: str, hint: Any, allowed: Range | None = None) -> st.SearchStrategy[Any]:
    """Values of a type, most of them within the range that is noted."""
    if get_origin(hint) is Annotated:
        noted = next((note for note in get_args(hint)[1:] if isinstance(note, Range)), allowed)
        return right(field, get_args(hint)[0], noted)
    if get_origin(hint) in (typing.Union, types.UnionType):
        return st.one_of([right(field, option, allowed) for option in get_args(hint)])
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        return st.lists(right(field, get_args(hint)[0], allowed), max_size=3).map(tuple)
    if isinstance(hint, type) and issubclass(hint, Settings):
        return valued(hint)
    return _right_leaf(hint, allowed or Range())


def made(family: Any, values: dict[str, Any]) -> Any:
    """Settings by the class itself, those in them by their class where that takes them."""
    hints = hints_of(family)
    found = {}
    for name, value in values.items():
        inner = next(_settings_in(hints[name]), None)
        takes = inner is not None and isinstance(value, dict) and _needed(inner) <= set(value) <= set(hints_of(inner))
        found[name] = made(inner, value) if takes else value
    return family(**found)


def _needed(family: Any) -> set[str]:
    """The settings without a default."""
    usual = (dataclasses.MISSING, dataclasses.MISSING)
    return {field.name for field in dataclasses.fields(family) if (field.default, field.default_factory) == usual}


def _right_leaf(hint: Any, allowed: Range) -> st.SearchStrategy[Any]:
    low, high = max(allowed.low, -1e6), min(allowed.high, 1e6)
    if hint is float:
        return st.floats(low, high, allow_nan=False)
    if hint is int:
        return st.integers(int(low), int(min(high, 1000)))
    words = st.sampled_from(["convnet", "gcn", "a", "convnet:width=8", "runs/x", "digits"])
    return {bool: st.booleans(), str: words, Path: words.map(Path), type(None): st.none()}.get(hint, words)


@functools.cache
def valued(family: type) -> st.SearchStrategy[dict[str, Any]]:
    """Values for a few settings of a class by name: right ones, and wrong ones."""
    hints = hints_of(family)
    fields = {field.name: field for field in dataclasses.fields(family)}
    needed = {name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING}
    each = {name: st.one_of(right(name, hints[name]), right(name, hints[name]), hostile) for name in fields}

    @st.composite
    def draw_values(draw: Any) -> dict[str, Any]:
        chosen = draw(st.lists(st.sampled_from(list(fields)), max_size=3, unique=True)) if fields else []
        return {name: draw(each[name]) for name in [*needed, *(name for name in chosen if name not in needed)]}

    return draw_values()


def leaves(settings: Any) -> Iterator[tuple[str, Any, Any]]:
    """Every value of settings, of tuples each, with its name and type."""
    hints = hints_of(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, Settings):
            yield from leaves(value)
        else:
            for item in value if isinstance(value, tuple) else (value,):
                yield field.name, item, hints[field.name]


# -------------------------------------------------------------------------------------------------------- changed files


@st.composite
def changed_tree(draw: Any, facts: Any) -> Any:
    """A copy of what JSON holds, with one to three things in it replaced, left out or added."""
    facts = json.loads(json.dumps(facts))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(facts))
        if not places:
            return draw(hostile_plain)
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["replace", "replace", "remove", "add", "whole"])):
            case "replace":
                holder[key] = draw(hostile_plain)
            case "remove":
                del holder[key]
            case "add" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["", "x", "__class__", "settings", "kind", "\ud800", "a/../b"]))] = 1
            case "add":
                holder.insert(key, draw(hostile_plain))
            case "whole" if draw(st.integers(0, 9)) == 0:
                facts = draw(hostile_plain)
            case _:
                pass
    return facts


def _places(facts: Any) -> Iterator[tuple[Any, Any]]:
    """Where values stand: their holder, and their key in it."""
    items = facts.items() if isinstance(facts, dict) else enumerate(facts) if isinstance(facts, list) else ()
    for key, value in list(items):
        yield facts, key
        yield from _places(value)


@st.composite
def changed_bytes(draw: Any, data: bytes) -> bytes:
    """Bytes with bits turned over, some inserted, some left out, two parts swapped, or the end cut off."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(
            st.integers(0, max(len(changed) - 1, 0)) | st.integers(0, min(len(changed) - 1, 64) if changed else 0)
        )
        match draw(st.sampled_from(["flip", "flip", "set", "cut", "insert", "leave out", "swap"])):
            case "flip" if changed:
                changed[place] ^= 1 << draw(st.integers(0, 7))
            case "set" if changed:
                changed[place] = draw(st.sampled_from([0, 1, 127, 128, 255]))
            case "cut":
                del changed[place:]
            case "insert":
                changed[place:place] = draw(st.binary(min_size=1, max_size=8))
            case "leave out":
                del changed[place : place + draw(st.integers(1, 16))]
            case "swap":
                changed = changed[place:] + changed[:place]
    return bytes(changed)


def as_bytes(facts: Any) -> bytes:
    """JSON as other programs write it, NaN and halves of characters included."""
    return json.dumps(facts).encode()


def changed_json(facts: Any) -> st.SearchStrategy[bytes]:
    """The bytes of a JSON file with something changed in its values, or in its bytes."""
    odd = [
        b"",
        b"null",
        b"[",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
        b'"x',
        b"NaN",
    ]
    tree = changed_tree(facts).map(as_bytes)
    return st.one_of(tree, tree, tree, changed_bytes(as_bytes(facts)), st.sampled_from(odd))


def is_one_line(error: Exception) -> bool:
    """Whether a refusal is short enough for a terminal, and says something."""
    text = str(error)
    assert text and len(text) < 2500, text[:3000]
    return True
