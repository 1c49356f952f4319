"""Settings classes as command-line flags: names, parsing, and settings written back as words.

Each field of nested settings is a flag. Settings of something beside a method have a role: `Annotated[X, Role()]` puts
the field's name before its flags (`--teacher.lr`). The field that X names as `itself` has the role alone as its flag
(`--teacher`).
"""

import dataclasses
import difflib
import io
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, get_origin

from attar.core.checks import bare, check_of
from attar.core.errors import InputError, shortened
from attar.core.hints import (
    article,
    choices_of,
    in_range,
    is_bool,
    nested_in,
    notes_of,
    one_or_more,
    options_of,
    readable,
    takes_none,
    takes_several,
    takes_text,
    type_words,
)
from attar.core.sentences import owner, sentence_of
from attar.core.settings import Hidden as Hidden
from attar.core.settings import Role as Role
from attar.core.settings import Settings, hints_of
from attar.core.settings import Words as Words

DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
"""What a flag may begin with where somebody has copied it from a text: hyphens, dashes and the minus sign."""


@dataclass(frozen=True)
class Flag:
    """One setting as a flag."""

    name: str
    """As it is typed: `--teacher.lr`."""
    path: tuple[str, ...]
    """Where it lies in nested settings: `("teacher", "protocol", "lr")`."""
    hint: Any
    """Its type, with all that is noted on it."""
    default: Any
    """`dataclasses.MISSING` where it must be given."""
    sentence: str
    """The sentence under the field."""
    owner: type = Settings
    """The class whose field it is."""


@dataclass(frozen=True)
class FlagText:
    """One setting as a person reads it."""

    flag: str
    """On the command line: `--real-batch`."""
    setting: str
    """In Python, through nested settings: `real_batch`, `architecture.width`."""
    type: str
    default: str
    sentence: str
    everyday: bool = False
    """Whether it is one of the few that are shown first."""


def flags_of(settings: Any, role: str = "") -> list[Flag]:
    """The flags of a settings dataclass, or of one made from it; all with a role in front, if there is one."""
    flags = list(_walk(settings, f"{role}." if role else "", ()))
    _assert_unique(flags)
    return flags


def texts_of(settings: Any, everyday: Collection[str] = ()) -> tuple[FlagText, ...]:
    """The flags of settings in words; everyday ones by name (`real_batch`, `teacher.lr`), which come first."""
    flags = {flag.name: flag for flag in flags_of(settings)}
    first = [_flag_name(name) for name in everyday]
    missing = [name for name in first if name not in flags]
    assert not missing, f"{settings}: {', '.join(missing)} should be everyday settings, but are no settings"
    order = [*first, *(name for name in flags if name not in first)]
    return tuple(_text(flags[name], name in first) for name in order)


def parse(
    parts: Mapping[str, Any],
    arguments: Sequence[str],
    *,
    program: str,
    positional: Sequence[str] = (),
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """Settings from words.

    Args:
        parts: Settings by the name of their group, as they are where nothing is given; or their class.
        arguments: The words.
        program: The command so far, `attar condense dm`, which errors name.
        positional: Settings that are given without their flag, in this order; the last may take several words.
        others: Further flags that the program knows, for what may have been meant: `--paper`.

    Raises:
        InputError: A flag that is not there or is given twice, a value of another type or out of its range, or one
            that is missing. Of several mistakes the first is told.
    """
    groups = {group: flags_of(settings) for group, settings in parts.items()}
    _assert_unique(flag for group in groups.values() for flag in group)
    flags = {flag.name: flag for group in groups.values() for flag in group}
    line = _Line(program, flags, [_flag_name(name) for name in positional], others)
    try:
        line.split(list(arguments))
    except InputError:
        line.values()  # a mistake further left is told first
        raise
    values = line.values()
    line.check_complete()
    return {
        group: _rebuilt(settings, {flag.path: values[flag.name] for flag in groups[group] if flag.name in values})
        for group, settings in parts.items()
    }


def words_of(flags: Iterable[Flag], settings: Any, *, changed: bool = False) -> list[str]:
    """Settings as the words that make them: all of them, or those only that are other than the flags' defaults."""
    words: list[str] = []
    for flag in flags:
        value = _value_at(settings, flag.path)
        if value == flag.default and (changed or value is None):
            continue
        words += _words(flag, value)
    return words


def default_words(value: Any) -> str:
    """A default in words, so that what is typed on the command line can be read off it."""
    if value is MISSING:
        return "must be given"
    if value is None or value == ():
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(map(default_words, value)) if isinstance(value, tuple) else str(value)


def _walk(settings: Any, prefix: str, path: tuple[str, ...]) -> Iterator[Flag]:
    family = settings if isinstance(settings, type) else type(settings)
    for field in dataclasses.fields(family):
        hint = hints_of(family)[field.name]
        notes = {type(note) for note in notes_of(hint)}
        if Hidden in notes:
            continue
        value = _default(field) if settings is family else getattr(settings, field.name)
        nested, place = nested_in(hint), (*path, field.name)
        if nested:
            inside = nested if value is None or value is MISSING else value
            yield from _walk(inside, f"{prefix}{field.name}." if Role in notes else prefix, place)
        else:
            itself = prefix and field.name == getattr(family, "itself", None)
            name = prefix[:-1] if itself else f"{prefix}{field.name}"
            yield Flag(_flag_name(name), place, hint, value, sentence_of(family, field.name), owner(family, field.name))


class _Line:
    """The words of one command: which flags they give, and the mistakes in them."""

    def __init__(self, program: str, flags: dict[str, Flag], positional: list[str], others: Sequence[str]) -> None:
        self.program, self.flags, self.positional, self.others = program, flags, positional, others
        self.given: dict[str, list[str]] = {}
        """The words that each flag is given."""

    def split(self, words: list[str]) -> None:
        """Give each flag the words that follow it, and what stands alone to the positional ones."""
        loose: list[str] = []
        while words:
            word = words.pop(0)
            if not is_flag(word):
                loose.append(word)
                continue
            before, equals, value = word.partition("=")
            name, off = self.known(before)
            if is_bool(self.flags[name].hint):
                self.checkbare(name, value if equals else next(iter(words), ""), bool(equals))
                self.give(name, [str(not off)])
            else:
                self.give(name, [value] if equals else self.taken(words, self.flags[name]))
        for name in self.positional:
            if loose:
                self.give(name, self.taken(loose, self.flags[name]))
        if loose:
            near = _nearest(loose[0].partition("=")[0], self.flags)
            guess = f"; did you mean {near!r}?" if near else "."
            raise InputError(
                f"{shortened(loose[0])!r} belongs to no flag{guess} Give a setting as --name value.{self.help()}"
            )

    def give(self, name: str, words: list[str]) -> None:
        """Note the words of a flag."""
        if name in self.given:
            raise InputError(f"{self.called(name)} is given twice. Give it once.")
        if "" in words and self.flags[name].default != "":
            raise InputError(f"{self.called(name)} needs a value, {article(self.flags[name].hint)}, not an empty one.")
        self.given[name] = words

    def known(self, given: str) -> tuple[str, bool]:
        """The flag that is meant, and whether it is turned off."""
        name = _flag_name(given[2:]) if given.startswith("--") else given
        if name in self.flags:
            return name, False
        turned = f"--{name.removeprefix('--no-')}"
        if name.startswith("--no-") and turned in self.flags and is_bool(self.flags[turned].hint):
            return turned, True
        role, _, inner = given.rpartition(".")
        stands_for_it = role in self.flags and self.flags[role].path[-1].replace("_", "-") == inner
        near = role if stands_for_it else _nearest(given, [*self.flags, *self.others, "--help", "--help-all"])
        guess = f"; did you mean {near!r}?" if near else "."
        raise InputError(f"unknown flag {shortened(given)}{guess} All settings: {self.program} --help-all")

    def checkbare(self, name: str, value: str, equals: bool) -> None:
        """Refuse a value for a flag that takes none."""
        if equals or value.lower() in ("true", "false", "yes", "no", "on", "off"):
            raise InputError(f"{name} takes no value, not {shortened(value)!r}. Give {name} or --no-{name[2:]}.")

    def taken(self, words: list[str], flag: Flag) -> list[str]:
        """Take what follows a flag from the front of the words."""
        most = len(words) if takes_several(flag.hint) else 1
        count = 0
        while count < min(most, len(words)) and not is_flag(words[count]):
            count += 1
        taken, words[:] = words[:count], words[count:]
        if not taken and not all(get_origin(bare(option)) is tuple for option in options_of(flag.hint)):
            dash = f" Give a value that begins with a dash as {flag.name}={words[0]}." if words else ""
            told = dash if words and not words[0].startswith("--") else ""
            raise InputError(f"{flag.name} needs a value, {article(flag.hint)}.{told}")
        return taken

    def values(self) -> dict[str, Any]:
        """The values of the flags given so far, from the type of each and its words.

        Raises:
            InputError: One is of another type, or out of its range.
        """
        hints = {name: (self.flags[name].hint, words) for name, words in self.given.items()}
        values = _read(hints)
        for name, (hint, words) in hints.items():
            found = values if values is not None else _read({name: (hint, words)})
            if found is None or not in_range(hint, found[name]):
                raise _mistaken(self.called(name), hint, words)
            check_of(self.flags[name].path[-1], hint)(self.called(name), found[name])
        return values or {}

    def check_complete(self) -> None:
        """Refuse a command without a flag that has no default."""
        for name, flag in self.flags.items():
            if flag.default is MISSING and name not in self.given:
                raise InputError(f"{self.called(name)} must be given.{self.help()}")

    def called(self, name: str) -> str:
        """A flag as a person knows it: `FOLDER` where it is given without its name."""
        return name[2:].upper() if name in self.positional else name

    def help(self) -> str:
        return f" For help: {self.program} --help"


def is_flag(word: str) -> bool:
    """Whether a word is meant as a flag: it begins with a dash, and is no number."""
    if word[:1] == "" or word[0] not in DASHES or word == "-":
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


def flag_words(flag: str, value: str) -> list[str]:
    """A flag with its value, in the form that is read as it stands: `--data=-x` where the value looks like a flag."""
    return [f"{flag}={value}"] if is_flag(value) else [flag, value]


def _nearest(given: str, flags: Iterable[str]) -> str | None:
    """The flag that may have been meant, if there is one like it."""
    names = {name[2:]: name for name in flags}
    word = given.lstrip(DASHES).lower().replace("_", "-")
    alike = [*difflib.get_close_matches(word, names, n=1)]
    inside = [name for name in names if name.endswith(f".{word}")]
    outside = [name for name in (word.rpartition(".")[2], word.removeprefix("no-")) if name in names]
    found = [*([word] if word in names else []), *inside, *outside, *alike]
    return names[found[0]] if found else None


def _read(given: dict[str, tuple[Any, list[str]]]) -> dict[str, Any] | None:
    """One call of tyro for all that is given; None where something is of another type."""
    if not given:
        return {}
    import tyro

    fields = {f"f{number}": hint for number, (hint, _) in enumerate(given.values())}
    made = dataclasses.make_dataclass("Given", [(field, readable(hint)) for field, hint in fields.items()])
    words: list[str] = []
    for field, (hint, own) in zip(fields, given.values(), strict=True):
        own = ["None"] if own == ["none"] and takes_none(hint) and not takes_text(hint) else own
        words += [f"--{field}={own[0]}"] if len(own) == 1 else [f"--{field}", *own]
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            read: Any = tyro.cli(made, args=words)
    except SystemExit:
        return None
    found = {name: at_home(getattr(read, field)) for name, field in zip(given, fields, strict=True)}
    return {
        name: value[0] if one_or_more(given[name][0]) and len(value) == 1 else value for name, value in found.items()
    }


def at_home(value: Any) -> Any:
    """A path, or text that is one, with the home folder in place of `~`, which a shell leaves behind an equals sign."""
    if isinstance(value, tuple):
        return tuple(map(at_home, value))
    if not isinstance(value, (str, Path)) or not str(value).startswith("~"):
        return value
    home = os.path.expanduser(value)  # noqa: PTH111  # Path's own raises where there is no such user
    if isinstance(value, Path) and home.startswith("~"):
        raise InputError(f"{value} begins at the home folder of a user who is not there. For a name with ~: ./{value}")
    return type(value)(home)


def _mistaken(name: str, hint: Any, words: list[str]) -> InputError:
    choices = [str(choice) for choice in choices_of(hint)]
    wrong = next((word for word in words if choices and word not in choices), " ".join(words))
    near = difflib.get_close_matches(wrong, choices, n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    return InputError(f"{name} takes {article(hint)}, not {shortened(wrong)!r}{guess}")


def _rebuilt(settings: Any, given: dict[tuple[str, ...], Any]) -> Any:
    """Settings with the values given, all those of one level at once, so that they are checked together."""
    family = settings if isinstance(settings, type) else type(settings)
    values: dict[str, Any] = {}
    for name in {path[0]: None for path in given}:
        inside = {path[1:]: value for path, value in given.items() if path[0] == name}
        if () in inside:
            values[name] = inside[()]
        else:
            there = MISSING if settings is family else getattr(settings, name)
            nested = nested_in(hints_of(family)[name])
            values[name] = _rebuilt(nested if there is MISSING or there is None else there, inside)
    return family(**values) if settings is family else dataclasses.replace(settings, **values)


def _words(flag: Flag, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag.name if value else f"--no-{flag.name[2:]}"]
    if isinstance(value, tuple):
        return [flag.name, *map(str, value)]
    plain = value is None or isinstance(value, (str, int, float, Path))
    text = str(value) if plain else f"<{type(value).__name__}>"
    return [f"{flag.name}={text}"] if is_flag(text) else [flag.name, text]


def _text(flag: Flag, everyday: bool) -> FlagText:
    words, default, sentence = type_words(flag.hint), default_words(flag.default), flag.sentence
    if default != "nothing":
        for none in (" Default: none.", "; none unless given"):
            sentence = sentence.replace(none, "")  # said where None is usual, and the class has another
        words += ", or none" if takes_none(flag.hint) and bare(flag.hint) is not Any else ""
    return FlagText(flag.name, ".".join(flag.path), words, default, sentence, everyday)


def _flag_name(name: str) -> str:
    return f"--{name.rstrip('_').replace('_', '-')}"  # `as_`, since `as` is a word of Python


def _assert_unique(flags: Iterable[Flag]) -> None:
    seen: dict[str, Flag] = {}
    for flag in flags:
        other = seen.setdefault(flag.name, flag)
        assert other is flag, f"{flag.name} is a setting of {other.owner.__name__} and of {flag.owner.__name__}"


def _value_at(settings: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        settings = None if settings is None else getattr(settings, name)
    return settings


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
