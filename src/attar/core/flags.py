"""Settings as flags: one walk over a settings class, from words to settings, and back again.

The fields of nested settings are flags of their own. What stands beside a method has a role: `Annotated[X, Role()]`
puts the field's name in front of its flags (`--teacher.lr`), and the field that X names as `itself` is the bare role
(`--teacher`).
"""

import ast
import dataclasses
import difflib
import inspect
import io
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import MISSING, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from attar.core.errors import InputError
from attar.core.settings import Hidden as Hidden
from attar.core.settings import Range, Settings
from attar.core.settings import Role as Role
from attar.core.settings import Words as Words

_TYPES = {int: "whole number", float: "number", bool: "yes or no", str: "text", Any: "text", Path: "path"}


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
) -> dict[str, Any]:
    """Settings from words.

    Args:
        parts: Settings by the name of their group, as they are where nothing is given; or their class.
        arguments: The words.
        program: The command so far, `attar condense dm`, which errors name.
        positional: Settings that are given without their flag, in this order; the last may take several words.

    Raises:
        InputError: A flag that is not there, a value of another type or out of its range, or one that is missing.
    """
    groups = {group: flags_of(settings) for group, settings in parts.items()}
    _assert_unique(flag for group in groups.values() for flag in group)
    flags = {flag.name: flag for group in groups.values() for flag in group}
    names = [_flag_name(name) for name in positional]
    given = _split(list(arguments), flags, names, program)
    for flag in flags.values():
        if flag.default is MISSING and flag.name not in given:
            called = flag.name[2:].upper() if flag.name in names else flag.name
            raise InputError(f"{called} must be given: {type_words(flag.hint)}. For help: {program} --help")
    values = _values({name: (flags[name].hint, words) for name, words in given.items()})
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


def type_words(hint: Any) -> str:
    """A type in words: "whole number, at least 1"; "avg, max or none"."""
    options, note = _options(hint), _range(hint)
    item = next((get_args(_bare(option))[0] for option in options if get_origin(_bare(option)) is tuple), None)
    if item is not None:
        choices, note = _choices(item), _range(item)
        if choices:
            return f"any of {', '.join(map(str, choices))}"
        several = "several" if len(options) == 1 else "one or several"
        return f"{several} {_type_name(item)}s{f', each {note}' if note else ''}"
    if len(options) > 1:
        return " or ".join(map(type_words, options))
    if _choices(hint):
        return _listed([str(choice) for choice in _choices(hint)])
    word = _type_name(options[0])
    return f"{word}{', ' if str(note).startswith('at') else ' '}{note}" if note else word


def kind_of_type(hint: Any) -> str:
    """A type in one or two words, without range and choices: what a flag of one name has everywhere."""
    options = [_bare(option) for option in _options(hint)]
    if any(get_origin(option) is tuple for option in options):
        item = next(get_args(option)[0] for option in options if get_origin(option) is tuple)
        return f"several: {kind_of_type(item)}"
    return "choice" if get_origin(options[0]) is Literal else type_words(options[0])


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
        hint = _hints(family)[field.name]
        notes = {type(note) for note in _notes(hint)}
        if Hidden in notes:
            continue
        value = _default(field) if settings is family else getattr(settings, field.name)
        nested, place = _nested(hint), (*path, field.name)
        if nested:
            inside = nested if value is None or value is MISSING else value
            yield from _walk(inside, f"{prefix}{field.name}." if Role in notes else prefix, place)
        else:
            itself = prefix and field.name == getattr(family, "itself", None)
            name = prefix[:-1] if itself else f"{prefix}{field.name}"
            yield Flag(_flag_name(name), place, hint, value, _sentence(family, field.name), _owner(family, field.name))


def _split(words: list[str], flags: dict[str, Flag], positional: list[str], program: str) -> dict[str, list[str]]:
    """The words that follow each flag; of a flag that is given twice the last ones."""
    found: dict[str, list[str]] = {}
    loose: list[str] = []
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            loose.append(word)
            continue
        name, equals, value = word.partition("=")
        name, off = _known(name, flags, program)
        if _is_bool(flags[name].hint):
            if equals:
                raise InputError(f"{name} takes no value; say {name} or --no-{name[2:]}.")
            found[name] = [str(not off)]
        else:
            found[name] = [value] if equals else _taken(words, flags[name])
    return found | _placed(loose, flags, positional, program)


def _known(given: str, flags: dict[str, Flag], program: str) -> tuple[str, bool]:
    """The flag that is meant, and whether it is turned off."""
    name = _flag_name(given[2:])
    if name in flags:
        return name, False
    turned = f"--{name.removeprefix('--no-')}"
    if name.startswith("--no-") and turned in flags and _is_bool(flags[turned].hint):
        return turned, True
    inside = [known for known in flags if known.endswith(f".{name[2:]}")]
    near = [*inside, *difflib.get_close_matches(name[2:], [known[2:] for known in flags], n=1)]
    guess = f"; did you mean '--{near[0].removeprefix('--')}'?" if near else "."
    raise InputError(f"unknown flag {given}{guess} All settings: {program} --help-all")


def _taken(words: list[str], flag: Flag) -> list[str]:
    """Take what follows a flag from the front of the words."""
    most = len(words) if _takes_several(flag.hint) else 1
    count = 0
    while count < min(most, len(words)) and not words[count].startswith("--"):
        count += 1
    taken, words[:] = words[:count], words[count:]
    if not taken and not all(get_origin(_bare(option)) is tuple for option in _options(flag.hint)):
        raise InputError(f"{flag.name} needs a value: {type_words(flag.hint)}.")
    return taken


def _placed(words: list[str], flags: dict[str, Flag], positional: list[str], program: str) -> dict[str, list[str]]:
    """Words without a flag, by the settings that they are for."""
    found, words = {}, list(words)
    for name in positional:
        if words:
            found[name] = _taken(words, flags[name])
    if words:
        raise InputError(f"{words[0]!r} stands alone; a setting is given as --name value. For help: {program} --help")
    return found


def _values(given: dict[str, tuple[Any, list[str]]]) -> dict[str, Any]:
    """The values of flags, from the type of each and its words."""
    values = _read(given)
    if values is None:
        wrong = next(name for name in given if _read({name: given[name]}) is None)
        raise _mistaken(wrong, *given[wrong])
    return values


def _read(given: dict[str, tuple[Any, list[str]]]) -> dict[str, Any] | None:
    """One call of tyro for all that is given; None where something is of another type."""
    if not given:
        return {}
    import tyro

    fields = {f"f{number}": hint for number, (hint, _) in enumerate(given.values())}
    made = dataclasses.make_dataclass("Given", [(field, _readable(hint)) for field, hint in fields.items()])
    words: list[str] = []
    for field, (_, own) in zip(fields, given.values(), strict=True):
        words += [f"--{field}={own[0]}"] if len(own) == 1 else [f"--{field}", *own]
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            read: Any = tyro.cli(made, args=words)
    except SystemExit:
        return None
    return {name: getattr(read, field) for name, field in zip(given, fields, strict=True)}


def _mistaken(name: str, hint: Any, words: list[str]) -> InputError:
    choices = [str(choice) for choice in _choices(hint)]
    wrong = next((word for word in words if choices and word not in choices), " ".join(words))
    near = difflib.get_close_matches(wrong, choices, n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    wanted = type_words(hint)
    article = "" if choices or wanted.startswith(("one ", "several", "text")) else "a "
    return InputError(f"{name} takes {article}{wanted}, not {wrong!r}{guess}")


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
            nested = _nested(_hints(family)[name])
            values[name] = _rebuilt(nested if there is MISSING or there is None else there, inside)
    return family(**values) if settings is family else dataclasses.replace(settings, **values)


def _words(flag: Flag, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag.name if value else f"--no-{flag.name[2:]}"]
    if isinstance(value, tuple):
        return [flag.name, *map(str, value)]
    plain = value is None or isinstance(value, (str, int, float, Path))
    text = str(value) if plain else f"<{type(value).__name__}>"
    return [f"{flag.name}={text}"] if text.startswith("--") else [flag.name, text]


def _text(flag: Flag, everyday: bool) -> FlagText:
    words, default = type_words(flag.hint), default_words(flag.default)
    if _takes_none(flag.hint) and default != "nothing" and _bare(flag.hint) is not Any:
        words += ", or None"
    return FlagText(flag.name, ".".join(flag.path), words, default, flag.sentence, everyday)


def _flag_name(name: str) -> str:
    return f"--{name.replace('_', '-')}"


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


@cache
def _hints(family: type) -> dict[str, Any]:
    return get_type_hints(family, include_extras=True)


def _notes(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _options(hint: Any) -> list[Any]:
    """The types of a union, without None; or the one type."""
    bare = _bare(hint)
    union = get_origin(bare) in (typing.Union, types.UnionType)
    return [option for option in get_args(bare) if option is not type(None)] if union else [hint]


def _choices(hint: Any) -> tuple[Any, ...]:
    bare = _bare(_options(hint)[0])
    if get_origin(bare) is tuple:
        return _choices(get_args(bare)[0])
    return get_args(bare) if get_origin(bare) is Literal else ()


def _range(hint: Any) -> Range | None:
    notes = [note for option in (hint, *_options(hint)) for note in _notes(option)]
    return next((note for note in notes if isinstance(note, Range)), None)


def _takes_none(hint: Any) -> bool:
    return type(None) in get_args(_bare(hint)) or _bare(hint) is Any


def _takes_several(hint: Any) -> bool:
    return any(get_origin(_bare(option)) is tuple for option in _options(hint))


def _is_bool(hint: Any) -> bool:
    return [_bare(option) for option in _options(hint)] == [bool]


def _readable(hint: Any) -> Any:
    """The type as tyro is asked for it: objects by their words."""
    bare = _bare(hint)
    if get_origin(bare) is tuple and get_args(bare)[1:] == (...,) and _bare(get_args(bare)[0]) is Any:
        return tuple[str, ...]
    return str | None if bare is Any else hint


def _nested(hint: Any) -> type[Settings] | None:
    bare = _bare(_options(hint)[0])
    return bare if isinstance(bare, type) and issubclass(bare, Settings) else None


def _type_name(hint: Any) -> str:
    bare = _bare(hint)
    return _TYPES.get(bare) or str(getattr(bare, "__name__", bare))


def _listed(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _owner(family: type, field: str) -> type:
    return next(base for base in family.__mro__ if field in inspect.get_annotations(base))


def _sentence(family: type, field: str) -> str:
    """The sentence under a field, in the class of the family that has it last."""
    for base in family.__mro__:
        sentence = _sentences(base).get(field) if field in inspect.get_annotations(base) else None
        if sentence:
            return sentence
    return ""


@cache
def _sentences(family: type) -> dict[str, str]:
    try:
        file = inspect.getsourcefile(family)
    except TypeError:
        file = None
    return _sentences_in(Path(file)).get(family.__qualname__, {}) if file and Path(file).exists() else {}


@cache
def _sentences_in(file: Path) -> dict[str, dict[str, str]]:
    """The sentences of every class of a file, by the class's qualified name."""
    found: dict[str, dict[str, str]] = {}
    _collect(ast.parse(file.read_text(encoding="utf-8")), "", found)
    return found


def _collect(node: ast.AST, prefix: str, found: dict[str, dict[str, str]]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            found[f"{prefix}{child.name}"] = _under_fields(child)
            _collect(child, f"{prefix}{child.name}.", found)
        elif isinstance(child, ast.FunctionDef):
            _collect(child, f"{prefix}{child.name}.<locals>.", found)


def _under_fields(node: ast.ClassDef) -> dict[str, str]:
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
