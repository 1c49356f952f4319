"""The settings that a command starts from: defaults, a published table's cell, a baseline, or a file."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from attar.commands.again import Again
from attar.core.errors import InputError, unknown
from attar.core.flags import is_flag
from attar.core.kinds import Kind
from attar.core.presets import VARIANTS, has_table, table_of
from attar.core.registry import Entry

PRESETS = ("--paper", "--variant", "--baseline")
"""Flags that say what settings start from."""


@dataclass(frozen=True)
class Started:
    """Settings before the flags, and the flags."""

    method: Any
    task: Any
    words: list[str]


def started(entry: Entry, kind: Kind, words: list[str], again: Again | None = None) -> Started:
    """The settings to start from, and the words without `--paper`, `--variant` and `--baseline`.

    Raises:
        InputError: A preset that is not there.
    """
    settings, task = entry.load(), kind.task(entry.verb)
    (paper, variant, baseline), words = taken(PRESETS, words)
    if again is not None:
        return Started(settings.from_json(dict(again.settings)), task.from_json(dict(again.task)), words)
    _check(entry, settings, paper, variant, baseline)
    usual = task()
    if paper is not None and hasattr(settings, "teacher_of"):
        usual = usual.changed_by({"teacher": settings.teacher_of(paper)})
    if paper is not None:
        return Started(settings.paper(paper, **_wanted(settings, kind, words, variant, baseline)), usual, words)
    return Started(
        settings() if baseline is None else settings.baseline(baseline, **_epochs(settings, words)), usual, words
    )


def listed(entry: Entry, words: list[str]) -> str | None:
    """The published cells of a method, if the words are `--paper` without a value; otherwise None.

    Raises:
        InputError: The method has no published settings, or no such variant.
    """
    if "--paper" not in words or len(words) != len({*words}):
        return None
    (variant,), rest = taken(("--variant",), [word for word in words if word != "--paper"])
    if rest:
        return None
    settings = entry.load()
    if not hasattr(settings, "paper"):
        raise InputError(f"{entry.name} has no published settings. Do not give --paper.")
    if not has_table(settings):
        raise InputError(f"{entry.name} has published settings, but no list of them. Give --paper a value.")
    table = table_of(settings, variant)
    first = table.cells[0]
    size = f" --{table.size} {first.size}" if table.size else ""
    command = f"attar {entry.verb} {entry.name} --paper {first.data}{size}"
    lines = [f"{len(table.cells)} published cells. One of them: {command}"]
    lines += [f"Variants, by --variant: {', '.join(table.variants)}."] if table.variants else []
    lines += [table.note] if table.note else []
    wide = max(len(cell.name) for cell in table.cells)
    long = max(len(cell.source) for cell in table.cells)
    notes = list(dict.fromkeys(cell.note for cell in table.cells if cell.note))
    marks = {note: f"[{number}]" for number, note in enumerate(notes, start=1)} | {"": ""}
    rows = [f"  {cell.name:{wide}}  {cell.source:{long}}  {marks[cell.note]}".rstrip() for cell in table.cells]
    return "\n".join([*lines, "", *rows, *(["", *(f"{marks[note]} {note}" for note in notes)] if notes else [])])


def _check(entry: Entry, settings: Any, paper: str | None, variant: str | None, baseline: str | None) -> None:
    if paper is not None and not hasattr(settings, "paper"):
        raise InputError(f"{entry.name} has no published settings. Do not give --paper.")
    if baseline is not None and not hasattr(settings, "baseline"):
        raise InputError(f"{entry.name} has no baselines. Do not give --baseline.")
    if variant is None:
        return
    if paper is None:
        raise InputError("--variant needs --paper, which names a data set of the paper's table.")
    if variant not in VARIANTS:
        raise unknown("variant", variant, VARIANTS)
    if "variant" not in inspect.signature(settings.paper).parameters:
        raise InputError(f"{entry.name} has only one published variant. Do not give --variant.")


def _wanted(settings: Any, kind: Kind, words: list[str], variant: str | None, baseline: str | None) -> dict[str, Any]:
    """What the preset takes besides the name of a table."""
    takes = inspect.signature(settings.paper).parameters
    given: dict[str, Any] = {"variant": variant} if variant is not None else {}
    if kind.size in takes:
        given[kind.size] = _count(kind.size, words)
    if baseline is not None and "method" in takes:
        given |= {"method": baseline, **_epochs(settings, words)}
    return given


def _epochs(settings: Any, words: Sequence[str]) -> dict[str, Any]:
    """Epochs that are asked for take the place of a method's own number of steps."""
    return {"epochs": settings().epochs} if any(word.split("=")[0] == "--epochs" for word in words) else {}


def _count(size: str, words: list[str]) -> int:
    """How many of each class a published cell is for."""
    found = words_of(size, words) or ["10"]
    if len(found) > 1:
        raise InputError(f"a published table's cell has one {size} for all classes. Give one number, or no --paper.")
    if not found[0].isdigit() or found[0] == "0":
        raise InputError(f"--{size} takes a whole number, at least 1, not {found[0]!r}.")
    return int(found[0])


def taken(flags: Sequence[str], words: list[str]) -> tuple[list[str | None], list[str]]:
    """What follows some flags, and the words without them and that.

    Raises:
        InputError: One has no value, or is given twice.
    """
    found: dict[str, str] = {}
    rest, following = [], iter(words)
    for word in following:
        name, equals, value = word.partition("=")
        if name not in flags:
            rest.append(word)
            continue
        if name in found:
            raise InputError(f"{name} is given twice. Give it once.")
        found[name] = value if equals else next(following, "")
        if not found[name] or (is_flag(found[name]) and not equals):
            raise InputError(f"{name} needs a value.")
    return [found.get(flag) for flag in flags], rest


def words_of(setting: str, words: list[str]) -> list[str]:
    """The words that follow `--setting`, or stand behind its equals sign."""
    flag = f"--{setting}"
    for place, word in enumerate(words):
        if word.startswith(f"{flag}="):
            return [word.removeprefix(f"{flag}=")]
        if word == flag:
            return list(takewhile(lambda value: not value.startswith("--"), words[place + 1 :]))
    return []
