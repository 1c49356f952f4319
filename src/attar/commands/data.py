"""`attar data DATA`: print what attar reads from a data set of any kind."""

import difflib
import shlex
from dataclasses import dataclass
from pathlib import Path

from attar.commands.presets import taken
from attar.core.errors import InputError, unknown
from attar.core.flags import at_home, flags_of, is_flag, parse
from attar.core.help import EVERYTHING, HELP, settings_help
from attar.core.kinds import Kind, built_in, kind_in, kinds
from attar.core.provenance import ARTEFACT, shadowed
from attar.core.settings import Settings

USAGE = "usage: attar data DATA [--kind KIND] ..."
ABOUT = "Print what attar reads from a data set: the number of samples, their size, the classes, and the splits."


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """What is read."""

    data: str = "digits"
    """Data set: a name, a file, a folder, or a name on the hub."""
    kind: str = ""
    """Kind of the data, if attar does not recognise it. `attar methods --help` lists the kinds."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    wanted = kind_named_in(arguments)
    if any(word in HELP for word in arguments):
        print(_help(wanted, everything=EVERYTHING in arguments))
        return
    words = [at_home(word) for word in arguments if not is_flag(word)] or [Given().data]
    kind = wanted or kind_with_flags(kind_of_data(words), list(filter(is_flag, arguments)))
    parts = {"given": Given(), "reading": kind.read()()}
    read = parse(parts, arguments, program="attar data", positional=("data",))
    source = read["reading"].load(read["given"].data)
    print(read["reading"].describe(source))
    for note in shadowed(read["given"].data, kind.bundled):
        if note not in getattr(source, "notes", ()):
            print(f"note: {note}")


def kind_with_flags(usual: Kind, flags: list[str]) -> Kind:
    """The only kind that knows all of these flags where the one whose data these seem to be does not; else that one."""
    names = {flag.partition("=")[0].replace("_", "-").replace("--no-", "--") for flag in flags}
    fitting = [kind for kind in [usual, *_readers()] if names <= {flag.name for flag in flags_of(kind.read())}]
    return fitting[0] if usual in fitting or len(fitting) == 1 else usual


def kind_of_data(words: list[str]) -> Kind:
    """The kind that reads some data: that whose bundled data are named, or the first that knows the form.

    Args:
        words: Those among which the name, the file or the folder is.

    Raises:
        InputError: It is an artefact that its kind does not read as data, or nearly the name of bundled data.
    """
    asked = sorted(kinds().values(), key=lambda kind: not kind.sure)
    for word in words:
        for kind in asked:
            if word == kind.bundled or (kind.recognises(word) and _artefact_in(word) in (None, kind)):
                return kind
    usual = next(iter(built_in().values()))
    for word in words:
        near = difflib.get_close_matches(word, [kind.bundled for kind in kinds().values()], n=1, cutoff=0.8)
        if near and not Path(word).exists():
            raise InputError(f"unknown data {word!r}; did you mean {near[0]!r}?")
        if (Path(word) / "run" / "settings.json").is_file() and not (Path(word) / ARTEFACT).is_file():
            raise InputError(f"{word} is an unfinished run, no data. Run its command again to resume it.")
        if _artefact_in(word) not in (None, usual):
            raise InputError(f"{word} is an artefact, no data. To see it: attar report {shlex.quote(word)}")
    return usual


def _artefact_in(word: str) -> Kind | None:
    """The kind of the artefact in a folder, if there is one."""
    return kind_in(Path(word)) if (Path(word) / ARTEFACT).is_file() else None


def kind_named_in(words: list[str]) -> Kind | None:
    """The kind that `--kind` names, if it is there.

    Raises:
        InputError: There is none of the name.
    """
    (wanted,), _ = taken(("--kind",), words)
    if wanted is not None and wanted not in kinds():
        raise unknown("kind", wanted, kinds())
    return None if wanted is None else kinds()[wanted]


def _help(kind: Kind | None, *, everything: bool) -> str:
    readings = {f"how {one.holds} are read": one.read() for one in ([kind] if kind else _readers())}
    first = ["what is read", *(readings if kind else ())]
    groups = {"what is read": Given, **readings}
    return settings_help(USAGE, groups, about=ABOUT, everything=everything, first=first, positional=("data",))


def _readers() -> list[Kind]:
    """One kind of all that read alike."""
    return list({kind.reading: kind for kind in reversed(kinds().values())}.values())[::-1]
