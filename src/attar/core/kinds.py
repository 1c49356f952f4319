"""What a kind declares about itself, and the list of all kinds. This file imports neither torch nor a kind's code.

A kind is a type of input: labelled images, Gaussian mixtures, language models. Its folder has a `kind.py` with one
`KIND`. All verbs, the report, the hub, the docs and the tests read it. Other packages declare their kinds in the same
way and name them as entry points of the group `attar.kinds`.
"""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from attar.core.errors import InputError, shortened, unknown
from attar.core.extras import install
from attar.core.jsonfiles import read_json
from attar.core.notes import note

BUILT_IN = (
    "images",
    "graphs",
    "mixtures",
    "convolution",
    "classifiers",
    "language",
    "tables",
    "embeddings",
    "samplers",
    "scenes",
    "plasma",
)
GROUP = "attar.kinds"
Ref = str
"""`package.module:Name`, imported when it is asked for."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind, as `<kind>/kind.py` declares it."""

    name: str
    """The folder, the word in `artefact.json`, and the word on the command line."""
    holds: str
    """The type of input, in a few words: "labelled images"."""
    makes: str
    """What is made of it: "a few images per class"."""
    artefact: Ref
    """What a method makes: an `attar.core.artefact.Shareable`."""
    reading: Ref
    """How data are read: an `attar.core.tasks.Reading`; it may be another kind's."""
    tasks: Mapping[str, Ref]
    """Verb to the `attar.core.tasks.Task` that says what stands beside a method; the first is the kind's own verb."""
    scoring: Ref = ""
    """How an artefact is measured: an `attar.core.tasks.Scoring`. Empty if nothing is measured again."""
    bundled: str = ""
    """Name of a data set that is always available."""
    size: str = ""
    """The setting that counts how much is left (`ipc`): it stands in folder names, and asks for a published cell."""
    data: str = ""
    """What `--data` takes, for help."""
    forms: Ref = ""
    """A function that tells whether a name, file or folder looks like data of this kind; it imports nothing heavy."""
    sure: bool = False
    """Whether that function goes by files that no other data have, so that this kind is asked before the others."""
    methods: str = "methods.json"
    """The file beside `kind.py` with the kind's methods in words."""
    package: str = ""
    """Package of that file. Default: `attar.NAME`."""
    was: tuple[str, ...] = ()
    """Older words for it in `artefact.json`, which are still read."""
    imports: tuple[str, ...] = ()
    """Other kinds that it may import."""
    extra: str = ""
    """The extra that installs what it builds on, if there is one."""
    page: str = ""
    """Its page in the documentation, `docs/PAGE.md`. Default: `docs/NAME.md`."""

    @property
    def home(self) -> str:
        """The package that it lies in."""
        return self.package or f"attar.{self.name}"

    def load(self, folder: str | Path) -> Any:
        """Read an artefact of this kind."""
        return self.made.load(folder)

    @property
    def made(self) -> Any:
        """The class of its artefacts."""
        return imported(self.artefact, self.extra)

    def read(self) -> Any:
        """The class of its reading settings."""
        return imported(self.reading, self.extra)

    def recognises(self, data: str) -> bool:
        """Whether a name, a file or a folder looks like data of this kind."""
        return bool(self.forms) and bool(imported(self.forms)(data))

    def task(self, verb: str) -> Any:
        """The class of a verb's task.

        Raises:
            InputError: The verb means nothing to this kind.
        """
        if verb not in self.tasks:
            raise InputError(f"`attar {verb}` does not work on {self.holds}. Use {_verbs(self.tasks)}.")
        return imported(self.tasks[verb], self.extra)

    def scores(self) -> Any:
        """The class of its scoring settings.

        Raises:
            InputError: There is nothing to measure anew.
        """
        if not self.scoring:
            raise InputError(f"{self.makes} were measured when they were made. There is nothing to evaluate.")
        return imported(self.scoring, self.extra)


def imported(ref: Ref, extra: str = "", *, needed_by: str = "") -> Any:
    """What a reference names.

    Args:
        ref: `package.module:Name`.
        extra: The extra that installs what its module builds on, if there is one.
        needed_by: Name for the error message. Default: the name in the reference.

    Raises:
        InputError: What it builds on is not installed.
    """
    module, _, name = ref.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").startswith("attar"):
            raise
        raise InputError(f"{needed_by or name} needs {error.name}: {install(extra)}.") from None


@cache
def built_in() -> dict[str, Kind]:
    """The kinds of attar itself, by name."""
    return {name: imported(f"attar.{name}.kind:KIND") for name in BUILT_IN}


def kinds() -> dict[str, Kind]:
    """All kinds by name: attar's, and those of other packages."""
    return {**built_in(), **_further()}


@cache
def _further() -> dict[str, Kind]:
    """Those of other packages. One that does not load is left out with a warning, and none takes a name of attar's."""
    found = {}
    for point in entry_points(group=GROUP):
        try:
            kind = point.load()
        except Exception as error:  # whatever another package trips over
            note(f"the kind {point.name} ({point.value}) could not be read: {error}", stacklevel=2)
            continue
        if isinstance(kind, Kind) and kind.name not in BUILT_IN:
            found[kind.name] = kind
    return found


def kind_named(word: str) -> Kind:
    """The kind of a name, or of an older word for it. Other packages are asked only where attar has none.

    Raises:
        InputError: There is none.
    """
    for known in (built_in, _further):
        for kind in known().values():
            if word == kind.name or word in kind.was:
                return kind
    raise unknown("kind", word, kinds())


def kind_meant(word: str) -> Kind | None:
    """The kind that a person means, by its name, one or many of it, or by what one holds: "graph", "labelled graphs".

    None where a word means no kind, or several.
    """
    for known in (_by_name, _by_holding):
        found = {kind.name: kind for kind in kinds().values() if _one(word) in known(kind)}
        if len(found) == 1:
            return next(iter(found.values()))
    return None


def _by_name(kind: Kind) -> set[str]:
    return set(map(_one, (kind.name, kind.holds, *kind.was)))


def _by_holding(kind: Kind) -> set[str]:
    return {_one(word) for word in kind.holds.split() if len(word) > 2}


def _one(word: str) -> str:
    """A word as it is in the singular, and in small letters."""
    return word.lower().removesuffix("s")


def kind_of(thing: Any) -> Kind:
    """The kind of a method or an artefact, which carries its name as `kind`.

    Raises:
        InputError: It carries none.
    """
    word = getattr(thing, "kind", None)
    if isinstance(thing, str):
        raise InputError(f"the method is the text {thing!r}. Give its settings, an object of its class.")
    if not isinstance(word, str):
        one = next(iter(built_in()))
        raise InputError(f"{type(thing).__name__} does not name its kind. Set one, such as kind = {one!r}.")
    return kind_named(word)


def verb_of(method: Any) -> str:
    """The verb of a method: its own, or the first of its kind."""
    return str(getattr(method, "verb", None) or next(iter(kind_of(method).tasks)))


def kind_for(method: Any, verb: str) -> Kind:
    """The kind of a method that is used with a verb.

    Raises:
        InputError: It is used with another verb, or is no method.
    """
    kind, own = kind_of(method), verb_of(method)
    if own != verb:
        name = getattr(method, "name", type(method).__name__)
        raise InputError(f"{name} is used with `attar {own}`, not `attar {verb}`.")
    return kind


def kind_with(verb: str, name: str = "") -> Kind:
    """The kind of a name that has a verb; the one kind that has it without a further word, where there is no name.

    Raises:
        InputError: The kind does not have it; or there is no name, and several kinds do.
    """
    worded = [kind.name for kind in worded_with(verb).values()]
    having = {kind.name: kind for kind in kinds().values() if verb in kind.tasks and kind.name not in worded}
    if name in having:
        return having[name]
    if name:
        raise InputError(f"`attar {verb}` is for {', '.join(having)}, not for {name}.")
    if len(having) != 1:
        raise InputError(f"`attar {verb}` is for {', '.join(having)}. Choose one with --kind.")
    return next(iter(having.values()))


def kind_working_on(verb: str, data: str) -> Kind | None:
    """The first kind that has a verb for data, and knows a name, file or folder of them; None if none does."""
    for kind in kinds().values():
        if verb in kind.tasks and not kind.task(verb).of_artefact and (data == kind.bundled or kind.recognises(data)):
            return kind
    return None


def kind_answering(verb: str) -> Kind | None:
    """The only kind that has a verb for data; None if there is none, or there are several."""
    having = [kind for kind in kinds().values() if verb in kind.tasks and not kind.task(verb).of_artefact]
    return having[0] if len(having) == 1 else None


def worded_with(verb: str) -> dict[str, Kind]:
    """The kinds that have a verb with a further word, by that word."""
    having = [kind for kind in kinds().values() if verb in kind.tasks]
    words = {kind.task(verb).word: kind for kind in having} if len(having) > 1 else {}
    return {word: kind for word, kind in words.items() if word}


def kind_in(folder: Path) -> Kind | None:
    """The kind of the artefact in a folder; None where there is no description that can be read.

    Raises:
        InputError: It is of a kind that nobody knows.
    """
    try:
        facts = read_json(folder / "artefact.json")
    except InputError:
        return None
    if not isinstance(facts, dict):
        return None
    word = str(facts.get("kind", BUILT_IN[0]))
    try:
        return kind_named(word)
    except InputError:
        raise InputError(
            f"{folder} holds an artefact of kind {shortened(word)!r}, which this version of attar does not know."
        ) from None


def _verbs(tasks: Iterable[str]) -> str:
    names = [f"`attar {verb}`" for verb in tasks]
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
