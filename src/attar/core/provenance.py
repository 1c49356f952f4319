"""The call that made an artefact: verb, data and settings, from which the same command can be given again."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from attar.core import hub
from attar.core.flags import flag_words, flags_of, words_of
from attar.core.kinds import imported, kind_named
from attar.core.registry import registered
from attar.core.settings import plain

ARTEFACT = "artefact.json"
"""The file beside an artefact that holds its origin."""
S = TypeVar("S")
SECRET = ("token", "workers", "address")
"""Settings that are never written down: secrets, and who does the work, which changes nothing that is made."""


@dataclass(frozen=True)
class Call:
    """One use of a verb. It is kept with what was made, and not compared when a run is resumed."""

    verb: str
    kind: str
    data: str
    """As it was typed; of an absolute path what leads there from the working directory, or its last name."""
    named: bool = True
    """Whether data were given by a name or a path, which a command can take, and not as an object."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """How the data were read, where that was not as usual."""
    task: Mapping[str, Any] = field(default_factory=dict)
    """What stood beside the method, where something did."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The method's settings that were not the usual ones, before anything was filled in."""
    hub: tuple[str, ...] = ()
    """Names on the hub among all of these: texts that look like one, where no file or folder has that name."""

    @classmethod
    def of(cls, verb: str, kind: str, data: Any, reading: Any, task: Any, method: Any) -> "Call":
        """What was asked for, of data that are text, a path, or a source with a name."""
        named = isinstance(data, (str, Path))
        groups = unusual(reading), unusual(task), unusual(method)
        texts = [*_texts([*([data] if named else []), *groups])]
        bare = [text for text in getattr(task, "models_of", lambda method: ())(method) if isinstance(text, str)]
        bare += [text for text in texts if text.startswith("transformers:")]
        there = [name for text in texts if hub.looks_like_one(name := hub.name_in(text))]
        there += [name for text in bare if hub.may_be_one(name := hub.name_in(text))]
        names = [name for name in there if not Path(name).expanduser().exists()]
        return cls(verb, kind, as_typed(data), named, *groups, tuple(dict.fromkeys(names)))

    def command(self, method: str, seed: int) -> str:
        """The command that was given, with what it left to the defaults left out; empty where no command makes it.

        Args:
            method: Its name.
            seed: That of the run.
        """
        if not self.named:
            return ""
        entry, kind = registered(method, self.verb), kind_named(self.kind)
        task, reading = kind.task(self.verb), kind.read()
        if entry is None and not task.usual:
            return ""
        settings = entry.load() if entry else imported(task.usual)
        words = ["attar", self.verb, *([task.word] if task.word else [])]
        words += [method] if entry else [str(word) for word in self.task.get(task.positional, ())]
        words += flag_words("--data", self.data) if self.data else []
        for group, given in ((settings, self.settings), (task, self.task), (reading, self.reading)):
            words += words_of(flags_of(group), group.from_json(dict(given)), changed=True)
        return shlex.join([*words, *(["--seed", str(seed)] if seed else [])])

    def again(self, file: str) -> str:
        """The command that takes method, settings and seed from a file, and the data as they were typed."""
        data = flag_words("--data", self.data) if self.data else []
        return shlex.join(["attar", self.verb, *flag_words("--settings", file), *data])

    def to_json(self) -> dict[str, Any]:
        """Plain values; names on the hub only where there are some."""
        facts = asdict(self)
        names = facts.pop("hub")
        return {**facts, "hub": list(names)} if names else facts


def shadowed(data: Any, bundled: str) -> tuple[str, ...]:
    """The note for the name of attar's own data where a file or a folder has that name too; nothing otherwise."""
    if not isinstance(data, str) or data != bundled or not Path(data).exists():
        return ()
    return (f"this is the bundled set; for the file or folder of that name here give ./{bundled}",)


def asked(source: S, data: Any, **reading: Any) -> S:
    """A source that remembers by which name and settings it was read; copies and parts of it do not.

    Args:
        source: What was read.
        data: What was given; only text and paths are remembered.
        reading: Settings of the kind's reading.
    """
    if isinstance(data, (str, Path)):
        object.__setattr__(source, "_asked", (data, reading))
    return source


def asked_for(source: Any) -> tuple[Any, dict[str, Any]]:
    """By which name and settings a source was read; itself, and none, where it does not remember."""
    found: tuple[Any, dict[str, Any]] = getattr(source, "_asked", (source, {}))
    return found


def as_typed(data: Any) -> str:
    """How data are written down: never an absolute path."""
    if not isinstance(data, (str, Path)):
        return str(getattr(data, "name", "") or type(data).__name__)
    several = str(data).split(",")
    if len(several) > 1 and all(Path(one).is_absolute() for one in several):  # files that are read together
        return ",".join(map(as_typed, several))
    path = Path(data).expanduser()
    if not path.is_absolute():
        return str(data)
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name


def unusual(settings: Any) -> dict[str, Any]:
    """The settings that are not the default's, as plain values; what is no plain value, and secrets, are left out."""
    try:
        usual = plain(type(settings)())
    except TypeError:  # settings without defaults
        usual = {}
    return _differing(plain(settings), usual)


def _differing(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not the usual ones, group by group."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in SECRET or value == usual.get(name, ...):
            continue
        known = usual.get(name)
        if isinstance(value, dict):
            inside = _differing(value, known if isinstance(known, dict) else {})
            found |= {name: inside} if inside else {}
        elif _is_plain(value):
            found[name] = written(value)
    return found


def _texts(value: Any) -> Iterator[str]:
    """All texts in settings, however they are nested."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Path))


def written(value: Any) -> Any:
    """A value as it is written down: paths as they are typed."""
    if isinstance(value, (list, tuple)):
        return [written(item) for item in value]
    if isinstance(value, Path) or (isinstance(value, str) and Path(value).is_absolute()):
        return as_typed(value)
    return value
