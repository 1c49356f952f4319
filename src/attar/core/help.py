"""Help as text: of a verb, of a method, and the list of methods. It is made from data, without importing a method.

The first page of each help fits 40 lines of 80 columns. `--help-all` prints the rest.
"""

import re
import shutil
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any, TypeVar

from attar.core.flags import FlagText, texts_of
from attar.core.kinds import kind_named
from attar.core.parts import Part, parts
from attar.core.registry import Entry, methods

T = TypeVar("T")
HELP = ("-h", "--help", "--help-all")
EVERYTHING = "--help-all"
WIDEST = 100
"""Longer lines are hard to read."""
LABELLED = re.compile(r"(score|picture|train):\s")
"""What begins a line that is copied."""
PAGE = 40
"""Lines of a first page."""
GROUPED = {"architecture": "network", "recall": "stored answers", "lora": "low-rank adapters"}
"""Groups of a method's settings that a person knows by another word."""


def verb_help(
    verb: str,
    about: str = "",
    *,
    everything: bool = False,
    usage: str = "METHOD --data DATA [--out FOLDER] ...",
    width: int | None = None,
) -> str:
    """What `attar condense` prints: the methods of a verb, by what one holds.

    Args:
        verb: It.
        about: What it does.
        everything: What each method does (`--help-all`), even where that is longer than a page.
        usage: What follows the verb.
        width: Number of columns. Default: the terminal's.
    """
    width, known = width or _width(), methods(verb=verb).values()
    first = [f"usage: attar {verb} {usage}", "", *([*_wrapped(_sentence(about), width), ""] if about else [])]
    last = ["", f"Settings of a method: attar {verb} METHOD --help"]
    lines = [*first, *_by_kind(known, width), *last]
    if everything or len(lines) <= PAGE:
        return "\n".join(lines)
    return "\n".join([*first, *_names(known, width), *last, f"What each one does:   attar {verb} {EVERYTHING}"])


def method_help(
    entry: Entry,
    groups: Mapping[str, Any],
    *,
    everything: bool,
    usage: str = "--data DATA [--out FOLDER] ...",
    first: Collection[str] = (),
    notes: Sequence[str] = (),
    width: int | None = None,
) -> str:
    """What `attar condense dm --help` prints: what the method is, and its everyday settings or all of them.

    Args:
        entry: The method.
        groups: Further settings by a title: a settings class, settings, or their texts.
        everything: All settings (`--help-all`), or those that one changes first.
        usage: What follows the method's name.
        first: Titles of the groups that stand with the everyday settings as well.
        notes: Sentences that follow.
        width: Number of columns. Default: the terminal's.
    """
    width = width or _width()
    command = f"attar {entry.verb} {entry.name}"
    shown = _own(entry, everything)
    for title, group in groups.items():
        if everything:
            shown[title] = _texts(group)
        elif title in first:
            shown[title] = tuple(flag for flag in _texts(group) if "." not in flag.flag)
    lines = [f"usage: {command} {usage}", "", *_wrapped(_about(entry), width)]
    lines += _sections(shown, width, brief=not everything)
    told = [line for note in notes for line in _wrapped(note, width)]
    hidden = sum(map(len, map(_texts, groups.values()))) + len(entry.flags) > sum(map(len, shown.values()))
    return "\n".join([*lines, *([""] if told or hidden else []), *told, *_rest(command, hidden)])


def settings_help(
    usage: str,
    groups: Mapping[str, Any],
    *,
    about: str = "",
    everything: bool = True,
    first: Collection[str] = (),
    positional: Collection[str] = (),
    notes: Sequence[str] = (),
    command: str = "",
    width: int | None = None,
) -> str:
    """What a verb without a method prints for `--help`: its usage line, what it does, and settings by group.

    Args:
        usage: The line itself.
        groups: Settings classes, settings, or their texts, by a title.
        about: What the verb does.
        everything: All settings (`--help-all`), or those of some groups, and the others by name.
        first: Titles of those groups.
        positional: Settings that are given without their flag, by name.
        notes: Sentences that follow.
        command: What `--help-all` is added to. Default: the first words of the usage line.
        width: Number of columns. Default: the terminal's.
    """
    width, texts = width or _width(), {title: _texts(group) for title, group in groups.items()}
    shown = {title: flags for title, flags in texts.items() if everything or title in first}
    lines = [usage, *(["", *_wrapped(_sentence(about), width)] if about else [])]
    lines += _sections(
        {title: _placed(flags, positional) for title, flags in shown.items()}, width, brief=not everything
    )
    others = {title: flags for title, flags in texts.items() if title not in shown and flags}
    names = [f"{title}: {', '.join(_in_short(flags))}" for title, flags in others.items()]
    told = [line for text in names for line in _wrapped(text, width, indent="  ")]
    noted = [line for note in notes for line in _wrapped(note, width)]
    command = command or " ".join(takewhile(str.islower, usage.split()[1:]))
    more = [["", *part] for part in (told, [*noted, *_rest(command, bool(others))]) if part]
    return "\n".join([*lines, *(line for part in more for line in part)])


def methods_table(chosen: Mapping[str, Entry], *, width: int | None = None) -> str:
    """What `attar methods` prints: methods, with their papers where there is room, by what one holds.

    Args:
        chosen: Them, by name.
        width: Number of columns. Default: the terminal's.
    """
    width = width or _width(WIDEST)
    lines = _by_kind(chosen.values(), width, papers=width >= WIDEST, verbs=True)
    return "\n".join([*lines, "", "Help of a method: attar VERB METHOD --help. Its paper: attar cite METHOD"])


def method_line(entry: Entry) -> str:
    """What `attar methods dm` prints: what the method is, and where its help is."""
    place = [kind_named(entry.kind).holds, *([entry.family] if entry.family else [])]
    help_ = f"Help: attar {entry.verb} {entry.name} --help"
    return "\n".join([*_wrapped(_about(entry), _width()), f"For {', '.join(place)}.", help_])


def parts_table(width: int | None = None) -> str:
    """What `attar methods` prints below the methods: losses, heads and other parts of a training."""
    width, lines, known = width or _width(WIDEST), ["Parts of a training: attar methods NAME"], list(parts().values())
    room = max(len(part.name) for part in known)
    right = max(len(str(part.paper or "")) for part in known) if width >= WIDEST else 0
    for (what,), same in _grouped(known, "what"):
        lines.append(f" {what}")
        lines += [line for part in same for line in _method_lines(part, room, right, width)]
    return "\n".join(lines)


def part_line(part: Part) -> str:
    """What `attar methods ensloss` prints: what the part is, and the command that uses it."""
    return "\n".join([*_wrapped(_about(part), _width()), f"A {part.what}, not a method: {part.used}"])


def _own(entry: Entry, everything: bool) -> dict[str, tuple[FlagText, ...]]:
    """A method's own settings by title: those that one changes first, then the others by what they belong to."""
    if len(entry.everyday) == len(entry.flags):
        return {"settings": entry.flags}
    shown: dict[str, tuple[FlagText, ...]] = {"everyday settings": entry.everyday}
    for flag in entry.flags if everything else ():
        if not flag.everyday:
            group, dot, _ = flag.setting.partition(".")
            title = GROUPED.get(group, group).replace("_", " ") if dot else "further settings"
            shown[title] = (*shown.get(title, ()), flag)
    return shown


def _texts(group: Any) -> tuple[FlagText, ...]:
    """The settings of a group in words, where they are not that already."""
    return group if isinstance(group, tuple) else texts_of(group)


def _placed(flags: tuple[FlagText, ...], positional: Collection[str]) -> tuple[FlagText, ...]:
    """Settings that are given without their flag as they stand in a usage line, before the others."""
    alone = [replace(flag, flag=flag.flag[2:].upper()) for flag in flags if flag.setting in positional]
    return (*alone, *(flag for flag in flags if flag.setting not in positional))


def _in_short(flags: Iterable[FlagText]) -> Iterable[str]:
    """Flags by name, those of a role as one."""
    return dict.fromkeys(re.sub(r"\..*", ".…", flag.flag) for flag in flags)


def _rest(command: str, hidden: bool) -> list[str]:
    return [f"All settings: {command} {EVERYTHING}"] if hidden else []


def _sections(shown: Mapping[str, tuple[FlagText, ...]], width: int, *, brief: bool) -> Iterator[str]:
    """Settings by their titles, all in the same columns."""
    room = min(max((len(_written(flag)) for flags in shown.values() for flag in flags), default=0), 26)
    for title, flags in shown.items():
        yield from ["", f"{title}:"] if flags else []
        for flag in flags:
            yield from _beside(_written(flag), _wrapped(_told(flag, brief), width - room - 4), room)


def _told(flag: FlagText, brief: bool) -> str:
    """What a setting means, what it takes, and what it is unless given."""
    sentence, kind = flag.sentence, flag.type
    if brief:
        start, *others = re.split(r"(?<=[^.\s][\w)’'\]]\.)\s", sentence)
        told = ("Default: ", "unless given")
        sentence = " ".join([start, *(other for other in others if any(words in other for words in told))])
        kind = re.sub(r", (each )?at least [\d.e-]+", "", kind)
    facts = [] if kind in ("text", "several texts", "one or several texts", "yes or no") else [_kept_together(kind)]
    facts += [] if flag.default in ("", "nothing") else [_kept_together(_default(flag))]
    return f"{sentence} ({'; '.join(facts)})" if facts else sentence


def _default(flag: FlagText) -> str:
    return flag.default if flag.default == "must be given" else f"default: {flag.default}"


def _names(entries: Iterable[Entry], width: int) -> Iterator[str]:
    """Methods by name alone, a line for each family."""
    entries = list(entries)
    room = max(len(entry.family) for entry in entries)
    for number, ((kind,), own) in enumerate(_grouped(entries, "kind")):
        yield from [""] * bool(number)
        yield f"{_capital(kind_named(kind).holds)}:"
        for (family,), members in _grouped(own, "family"):
            names = ", ".join(entry.name for entry in members)
            yield from _beside(family, _wrapped(names, width - room - 4), room)


def _by_kind(entries: Iterable[Entry], width: int, *, papers: bool = False, verbs: bool = False) -> Iterator[str]:
    entries = list(entries)
    room = max((len(entry.name) for entry in entries), default=0)
    right = max((len(str(entry.paper or "")) for entry in entries), default=0) if papers else 0
    for number, ((kind, verb), own) in enumerate(_grouped(entries, "kind", "verb")):
        yield from [""] * bool(number)
        yield f"{_capital(kind_named(kind).holds)}{f': attar {verb}' if verbs else ''}"
        for (family,), members in _grouped(own, "family"):
            yield from [f" {family}"] * bool(family)
            for entry in members:
                yield from _method_lines(entry, room, right, width)


def _method_lines(entry: Entry | Part, room: int, right: int, width: int) -> Iterator[str]:
    """Name, summary, and at the right the paper, if there is a column for it."""
    words = _wrapped(entry.summary, width - room - 4 - (right and right + 2))
    if right and entry.paper:
        words[0] = f"{words[0]:<{width - room - right - 6}}  {entry.paper}"
    yield from _beside(entry.name, words, room)


def _grouped(entries: Iterable[T], *by: str) -> Iterator[tuple[tuple[str, ...], list[T]]]:
    """Entries with the same values together, in the order of their first."""
    groups: dict[tuple[str, ...], list[T]] = {}
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


def _about(entry: Entry | Part) -> str:
    about = _sentence(entry.summary)
    if entry.paper is None:
        return about
    people = entry.paper.authors.split(" and ")
    names = [person.split(",")[0] for person in people]
    who = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
    where = [str(entry.paper.year)] if entry.paper.venue == "arXiv" else [str(entry.paper)]
    where += [f"arXiv:{entry.paper.arxiv}"] if entry.paper.arxiv else []
    return f"{about} {who}, {entry.paper.title}, {', '.join(where)}."


def _sentence(text: str) -> str:
    return f"{_capital(text.rstrip('.'))}."


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _written(flag: FlagText) -> str:
    """A flag as it is typed, with what turns it off."""
    return f"--[no-]{flag.flag[2:]}" if flag.type.startswith("yes or no") else flag.flag


def _kept_together(text: str) -> str:
    """A few words that are not parted at the end of a line."""
    return text.replace(" ", "\xa0") if len(text) < 30 else text


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    lines = textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def fitting(text: str, stream: Any) -> str:
    """Text in lines no wider than the terminal that it is printed on; as it is where that is none.

    Lines that name a file or a command (`score:   attar evaluate runs/x`) stay whole.
    """
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    lines = [[line] if LABELLED.match(line) else _wrapped(line, width) for line in text.splitlines()]
    return "\n".join(line for part in lines for line in part or [""])


def _width(otherwise: int = 80) -> int:
    """The terminal's width, or what it is otherwise."""
    return min(shutil.get_terminal_size((otherwise, 24)).columns, WIDEST)
