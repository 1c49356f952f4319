"""The registry of methods: name, verb, module, summary, paper and settings of each.

The registry is read from data, the file `methods.json` of each kind, so no method is imported before it is used. Other
packages add methods as entry points of the group `attar.methods`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from attar.core.errors import InputError, unknown
from attar.core.flags import FlagText, flags_of, texts_of
from attar.core.kinds import BUILT_IN, Kind, imported, kind_named, kinds, verb_of
from attar.core.notes import note

C = TypeVar("C")
GROUP = "attar.methods"
FILE, USUAL = "methods.json", "verbs.json"
"""Beside a kind: its methods, and what verbs without a method do."""
SHOWN_FIRST = 6
"""Settings in the short help of a method that does not choose them."""

METHODS: dict[str, "Entry"]
"""The methods of attar itself, by name; read when it is first used."""


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    authors: str
    title: str
    venue: str
    year: int
    arxiv: str = ""

    def __str__(self) -> str:
        return f"{self.venue} {self.year}"

    def bibtex(self, key: str) -> str:
        """A BibTeX entry."""
        lines = {"title": f"{{{self.title}}}", "author": self.authors, "booktitle": self.venue, "year": str(self.year)}
        if self.arxiv:
            lines |= {"eprint": self.arxiv, "archivePrefix": "arXiv"}
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in lines.items())
        return f"@inproceedings{{{key},\n{body}\n}}"


@dataclass(frozen=True)
class Entry:
    """One method as the command line knows it."""

    name: str
    verb: str
    module: str
    settings: str
    summary: str
    paper: Paper | None = None
    extra: str = ""
    kind: str = ""
    """What it works on, by the name of the kind."""
    family: str = ""
    """What it has in common with some of its kind: "gradient matching"."""
    flags: tuple[FlagText, ...] = ()
    """Its settings in words."""
    presets: tuple[str, ...] = ()
    """What its settings may start from, as it is typed: `--paper NAME`."""
    data: str | None = None
    """What `--data` takes, where it is not what its kind's other methods take; empty of a method that reads none."""
    usual_data: str | None = None
    """The data where none are named, where they are not its kind's; empty if some must be."""

    @property
    def reads(self) -> bool:
        """Whether it reads data."""
        return self.data != ""

    def takes(self, kind: Kind) -> str:
        """What `--data` takes; empty if nothing is read."""
        return kind.data if self.data is None else self.data

    def usual(self, kind: Kind) -> str:
        """The data where none are named; empty if nothing is read, or some must be named."""
        if not self.reads:
            return ""
        return kind.bundled if self.usual_data is None else self.usual_data

    def to_json(self) -> dict[str, Any]:
        """What `attar methods --json` tells of it; null for what is filled in by the method, or not there."""
        flags = map(asdict, self.flags)
        texts = [{**flag, "default": None if flag["default"] == "nothing" else flag["default"]} for flag in flags]
        return {
            "name": self.name,
            "kind": self.kind,
            "verb": self.verb,
            "family": self.family,
            "summary": self.summary,
            "paper": asdict(self.paper) if self.paper else None,
            "module": self.module,
            "class": self.settings,
            "extra": self.extra,
            "settings": texts,
            "presets": list(self.presets),
        }

    @property
    def everyday(self) -> tuple[FlagText, ...]:
        """The settings that a person changes first."""
        return tuple(flag for flag in self.flags if flag.everyday)

    def load(self) -> Any:
        """Import the one module of this method and return its settings class.

        Raises:
            InputError: What it builds on is not installed.
        """
        return imported(f"{self.module}:{self.settings}", self.extra, needed_by=self.name)


def methods(kind: str | None = None, verb: str | None = None) -> dict[str, Entry]:
    """All methods by name, those of other packages too; or those of one kind, of one verb, or both."""
    known = {**_built_in(), **_further(), **_built_in()}  # attar's first, and no name of theirs is taken
    return {name: entry for name, entry in known.items() if kind in (None, entry.kind) and verb in (None, entry.verb)}


def find(name: str, verb: str | None = None) -> Entry:
    """The entry of a method. Other packages are asked only where attar has none of the name.

    Raises:
        InputError: No method of that name, or it belongs to another verb.
    """
    name = name.replace("_", "-")
    entry = _built_in().get(name) or _further().get(name)
    if entry is None:
        raise _no_method(name, verb)
    if verb not in (None, entry.verb):
        raise InputError(f"{name} is used with `attar {entry.verb}`, not `attar {verb}`.")
    return entry


def _no_method(name: str, verb: str | None) -> InputError:
    """What is wrong with a name: it is that of a part of a training, or unknown."""
    from attar.core.parts import parts  # which reads its papers by this module

    part = parts().get(name)
    if part is None:
        return unknown("method", name, methods(verb=verb))
    return InputError(f"{name} is a {part.what}, not a method: {part.used}")


def usual(kind: Kind, verb: str) -> Entry:
    """What a verb that names no method does with a kind: from data, or from the settings class that the task names."""
    for entry in entries_in(kind.home, USUAL, kind.name):
        if entry.verb == verb:
            return entry
    module, _, settings = kind.task(verb).usual.partition(":")
    texts = texts_of(imported(kind.task(verb).usual, kind.extra))
    return Entry(verb, verb, module, settings, "", kind=kind.name, extra=kind.extra, flags=texts)


def registered(name: str, verb: str) -> Entry | None:
    """The entry of a method, if it has one. Other packages are asked only where attar has none of the name."""
    entry = _built_in().get(name) or _further().get(name)
    return entry if entry and entry.verb == verb else None


def class_in(ref: str, base: type[C], method: str, verbs: Sequence[str]) -> type[C] | None:
    """The class that a file names; None where it is neither attar's nor of its method's package, or no such class.

    Args:
        ref: `package.module:Name`.
        base: What it must be a subclass of.
        method: The method that wrote the file.
        verbs: Verbs by one of which the method is used.
    """
    entries = [entry for verb in verbs if (entry := registered(method, verb))]
    package, colon, _ = ref.partition(":")
    trusted = {"attar", *(entry.module.partition(".")[0] for entry in entries)}
    if not colon or package.partition(".")[0] not in trusted:
        return None
    try:
        found = imported(ref)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if isinstance(found, type) and issubclass(found, base) else None


def entry_of(settings: Any) -> Entry:
    """The entry of a settings class that carries its facts itself.

    Those are `name` and `kind`, and where they are there `verb`, `family`, `summary`, `citation` (a `Paper`) and
    `everyday` (names of the settings that are shown first).
    """
    first = (settings.__doc__ or settings.name).strip().splitlines()[0].rstrip(".")
    return Entry(
        name=settings.name,
        verb=verb_of(settings),
        module=settings.__module__,
        settings=settings.__qualname__,
        summary=getattr(settings, "summary", first),
        paper=getattr(settings, "citation", None),
        kind=kind_named(settings.kind).name,
        family=getattr(settings, "family", ""),
        flags=texts_of(settings, _everyday(settings)),
    )


def _everyday(settings: Any) -> list[str]:
    """The settings that are shown first: those that the class names, or its first ones."""
    return list(getattr(settings, "everyday", None) or [flag.name[2:] for flag in flags_of(settings)[:SHOWN_FIRST]])


def __getattr__(name: str) -> Any:
    if name == "METHODS":
        return _built_in()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _built_in() -> dict[str, Entry]:
    return {entry.name: entry for kind in BUILT_IN for entry in entries_in(f"attar.{kind}", FILE, kind)}


@cache
def _further() -> dict[str, Entry]:
    """The methods of other packages: beside their own kinds, and named one by one."""
    tables = [_beside(kind) for kind in kinds().values() if kind.name not in BUILT_IN]
    return {entry.name: entry for table in [*tables, _named()] for entry in table}


def _beside(kind: Kind) -> list[Entry]:
    """The methods beside another package's kind; none, with a warning, where their file is damaged."""
    try:
        return list(entries_in(kind.home, kind.methods, kind.name))
    except InputError as error:
        note(f"the methods of the kind {kind.name} could not be read: {error}", stacklevel=2)
        return []


def _named() -> Iterator[Entry]:
    """What the entry points name. One that does not load is left out with a warning: other methods still work."""
    for point in entry_points(group=GROUP):
        try:
            found = point.load()
            yield found if isinstance(found, Entry) else entry_of(found)
        except Exception as error:  # whatever is wrong with another's package
            note(f"the method {point.name} ({point.value}) could not be read: {error}", stacklevel=2)


def entries_in(home: str, file: str, kind: str = "") -> Iterator[Entry]:
    """What a file beside a package tells of methods, or of other things that have settings.

    Args:
        home: The package.
        file: The file's name.
        kind: The kind that the methods are for.
    """
    for name, facts in beside(home, file).items():
        if not _is_entry(facts):
            raise InputError(f"{file} of {home} is damaged: what it says of {name!r} is no method's description.")
        module, _, settings = facts["settings"].partition(":")
        yield Entry(
            name=name,
            verb=facts["verb"],
            module=module,
            settings=settings,
            summary=facts["summary"],
            paper=Paper(**facts["paper"]) if facts.get("paper") else None,
            extra=facts.get("extra", ""),
            kind=kind,
            family=facts.get("family", ""),
            flags=tuple(FlagText(**flag) for flag in facts.get("flags", [])),
            presets=tuple(facts.get("presets", [])),
            data=facts.get("data"),
            usual_data=facts.get("usual_data"),
        )


def _is_entry(facts: Any) -> bool:
    """Whether all that a file says of a method is of the types that `Entry` has."""
    return (
        isinstance(facts, dict)
        and all(isinstance(facts.get(name), str) for name in ("verb", "settings", "summary"))
        and all(isinstance(facts.get(name, ""), str) for name in ("extra", "family", "data", "usual_data"))
        and (not facts.get("paper") or _fits(facts["paper"], Paper))
        and all(isinstance(facts.get(name, []), list) for name in ("flags", "presets"))
        and all(_fits(flag, FlagText) for flag in facts.get("flags", []))
        and all(isinstance(preset, str) for preset in facts.get("presets", []))
    )


def _fits(values: Any, family: type) -> bool:
    """Whether values by name are the fields of a dataclass of plain types."""
    known = {field.name: field for field in fields(family)}
    needed = {name for name, field in known.items() if field.default is MISSING}
    return (
        isinstance(values, dict)
        and needed <= values.keys() <= known.keys()
        and all(isinstance(value, known[name].type) for name, value in values.items())  # type: ignore[arg-type]
    )


def beside(home: str, file: str) -> dict[str, Any]:
    """A file beside a package that need not be imported for it; nothing where there is none.

    Raises:
        InputError: It is not JSON, or no table.
    """
    path = _path(home, file)
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: it is no table of methods.")
    return found


def _path(home: str, file: str) -> Path | None:
    spec = find_spec(home)
    places = [Path(folder) / file for folder in (spec and spec.submodule_search_locations) or ()]
    return next((path for path in places if path.exists()), None)
