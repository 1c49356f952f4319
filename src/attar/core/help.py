"""Help as text: of a verb, of a method, and the list of methods. Made from data, without importing a method."""

import shutil
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from attar.core.flags import FlagText, texts_of
from attar.core.kinds import kind_named
from attar.core.registry import Entry, methods

WIDEST = 100
"""Longer lines are hard to read."""


def verb_help(verb: str, *, usage: str = "METHOD --data DATA [--out FOLDER] ...", width: int | None = None) -> str:
    """What `attar condense` prints: the methods of a verb, by what one holds."""
    lines = [f"usage: attar {verb} {usage}", "", *_by_kind(methods(verb=verb).values(), width or _width())]
    return "\n".join([*lines, "", f"Settings of a method: attar {verb} METHOD --help"])


def method_help(
    entry: Entry,
    groups: Mapping[str, Any],
    *,
    everything: bool,
    usage: str = "--data DATA [--out FOLDER] ...",
    first: Collection[str] = (),
    width: int | None = None,
) -> str:
    """What `attar condense dm --help` prints: what the method is, and its everyday settings or all of them.

    Args:
        entry: The method.
        groups: Further settings by a title: a settings class, or settings.
        everything: All settings (`--help-all`), or those that one changes first.
        usage: What follows the method's name.
        first: Titles of the groups that stand with the everyday settings as well.
        width: Columns; the terminal's unless given.
    """
    width = width or _width()
    command = f"attar {entry.verb} {entry.name}"
    few = not everything and len(entry.everyday) < len(entry.flags)
    shown = {"everyday settings" if few else "settings": entry.everyday if few else entry.flags}
    shown |= {title: texts_of(group) for title, group in groups.items() if everything or title in first}
    lines = [f"usage: {command} {usage}", "", *_wrapped(_about(entry), width), *_sections(shown, width)]
    more = few or (not everything and any(title not in first for title in groups))
    return "\n".join([*lines, "", f"All settings: {command} --help-all"] if more else lines)


def settings_help(usage: str, groups: Mapping[str, Any], *, width: int | None = None) -> str:
    """What a verb without a method prints for `--help`: its usage line, and settings by group.

    Args:
        usage: The line itself.
        groups: Settings classes, or settings, by a title.
        width: Columns; the terminal's unless given.
    """
    shown = {title: texts_of(group) for title, group in groups.items()}
    return "\n".join([usage, *_sections(shown, width or _width())])


def methods_table(kind: str | None = None, *, width: int | None = None) -> str:
    """What `attar methods` prints: every method with its paper, by what one holds."""
    return "\n".join(_by_kind(methods(kind).values(), width or _width(WIDEST), papers=True))


def _sections(shown: Mapping[str, tuple[FlagText, ...]], width: int) -> Iterator[str]:
    """Settings by their titles, all in the same columns."""
    room = min(max((len(_written(flag)) for flags in shown.values() for flag in flags), default=0), 26)
    for title, flags in shown.items():
        yield from ["", f"{title}:"] if flags else []
        for flag in flags:
            yield from _flag_lines(flag, width, room)


def _flag_lines(flag: FlagText, width: int, room: int) -> Iterator[str]:
    """A flag, and beside it what it takes, what it is unless given, and what it means."""
    default = "" if flag.default == "nothing" else f" {_kept_together(f'(default: {flag.default})')}"
    words = [*_wrapped(f"{flag.type}{default}", width - room - 4), *_wrapped(flag.sentence, width - room - 4)]
    yield from _beside(_written(flag), words, room)


def _by_kind(entries: Iterable[Entry], width: int, *, papers: bool = False) -> Iterator[str]:
    entries = list(entries)
    room = max((len(entry.name) for entry in entries), default=0)
    right = max((len(str(entry.paper or "")) for entry in entries), default=0) if papers else 0
    for number, ((kind, verb), own) in enumerate(_grouped(entries, "kind", "verb")):
        holds = kind_named(kind).holds
        yield from [""] * bool(number)
        yield f"{holds[0].upper()}{holds[1:]}{f': attar {verb}' if papers else ''}"
        for (family,), members in _grouped(own, "family"):
            yield from [f" {family}"] * bool(family)
            for entry in members:
                yield from _method_lines(entry, room, right, width)


def _method_lines(entry: Entry, room: int, right: int, width: int) -> Iterator[str]:
    """Name, summary, and at the right the paper, if there is a column for it."""
    words = _wrapped(entry.summary, width - room - 4 - (right and right + 2))
    if right and entry.paper:
        words[0] = f"{words[0]:<{width - room - right - 6}}  {entry.paper}"
    yield from _beside(entry.name, words, room)


def _grouped(entries: Iterable[Entry], *by: str) -> Iterator[tuple[tuple[str, ...], list[Entry]]]:
    """Entries with the same values together, in the order of their first."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(tuple(getattr(entry, name) for name in by), []).append(entry)
    yield from groups.items()


def _beside(left: str, right: list[str], room: int) -> Iterator[str]:
    """A word and what stands beside it; below it, where the word is too long for its column."""
    if len(left) > room:
        yield f"  {left}"
        left = ""
    for number, line in enumerate(right or [""]):
        yield f"  {'' if number else left:<{room}}  {line}".rstrip()


def _about(entry: Entry) -> str:
    about = f"{entry.summary[0].upper()}{entry.summary[1:]}."
    if entry.paper is None:
        return about
    people = entry.paper.authors.split(" and ")
    names = [person.split(",")[0] for person in people]
    who = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
    where = f"{entry.paper}, arXiv:{entry.paper.arxiv}" if entry.paper.arxiv else str(entry.paper)
    return f"{about} {who}, {entry.paper.title}, {where}."


def _written(flag: FlagText) -> str:
    """A flag as it is typed, with what turns it off."""
    return f"--[no-]{flag.flag[2:]}" if flag.type.startswith("yes or no") else flag.flag


def _kept_together(text: str) -> str:
    """A few words that are not parted at the end of a line."""
    return text.replace(" ", "\xa0") if len(text) < 30 else text


def filled(text: str) -> str:
    """A sentence in lines no wider than the terminal."""
    return "\n".join(_wrapped(text, _width()))


def _wrapped(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def _width(otherwise: int = 80) -> int:
    """The terminal's width, or what it is otherwise."""
    return min(shutil.get_terminal_size((otherwise, 24)).columns, WIDEST)
