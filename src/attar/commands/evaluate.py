"""`attar evaluate FOLDER ...`: measure how much artefacts keep, several side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.commands.making import MACHINE, READING, speaker
from attar.core.errors import InputError
from attar.core.flags import at_home, is_flag, parse
from attar.core.help import EVERYTHING, HELP, settings_help
from attar.core.kinds import Kind, built_in, kind_in, kinds
from attar.core.machine import Engine
from attar.core.settings import Settings

USAGE = "usage: attar evaluate FOLDERS... [--data DATA] ..."
ABOUT = (
    "Measure how much artefacts keep. New networks are trained on condensed sets and tested. Any other artefact is "
    "compared with what it was made from."
)


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """What is measured."""

    folders: tuple[str, ...] = ()
    """Artefacts of one kind: folders or names on the hub. Those that differ only in their seed make one row."""
    data: str | None = None
    """Data that the artefacts were made from. Default: the data that the artefacts name."""
    seed: int = 0
    """Seed of the repeats, the same for every artefact."""
    json: Path | None = None
    """File to which the scores are written too, as JSON."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or any(word in HELP for word in arguments):
        print(_help(arguments))
        return
    folders = _folders(arguments)
    if not all(folders) or not folders:
        raise InputError("FOLDERS must be given, before the flags. For help: attar evaluate --help")

    _check_different(folders)

    from attar.core.runtime import Runtime
    from attar.core.store import check_output, write_json
    from attar.verbs import measured, one_kind, open_artefact, reading_of

    artefacts = [open_artefact(folder) for folder in folders]
    kind = one_kind(artefacts)
    reading = reading_of(artefacts[0], kind)
    parts = {"given": Given(), "scoring": kind.scores()(), "reading": reading, "engine": Engine()}
    read = parse(parts, arguments, program="attar evaluate", positional=("folders",))
    given, scoring, engine = read["given"], read["scoring"], read["engine"]
    for late in given.folders[len(folders) :]:
        raise InputError(f"{late!r} comes after a flag. Give all folders before the flags.")
    check_output(given.json)
    runtime = Runtime(engine, given.seed, say=speaker(engine.quiet))
    if engine.trackers:
        runtime.say("note: trackers are told of runs that make something. An evaluation prints its scores.")
    found = measured(artefacts, kind, scoring, runtime, data=given.data, reading=read["reading"])
    if not runtime.processes.first:
        return
    scoring.remember([one for one, name in zip(artefacts, folders, strict=True) if Path(name).exists()], found)
    print(found)
    if given.json is not None:
        write_json(given.json, found.to_json())


def _check_different(folders: list[str]) -> None:
    """Refuse an artefact that is given twice: it would count as two, with a spread that says nothing."""
    places = [Path(folder).resolve() if Path(folder).exists() else folder for folder in folders]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise InputError(f"{folders[number]} is given twice. Give each artefact once.")


def _folders(words: list[str]) -> list[str]:
    """The artefacts, which stand before every flag."""
    found: list[str] = []
    for word in words:
        if is_flag(word):
            break
        found.append(at_home(word))
    return found


def _help(words: list[str]) -> str:
    """The settings of the kind that is named by its folder, or of all."""
    folder = next(iter(_folders(words)), "")
    named = kind_in(Path(folder)) if folder else None
    shown: list[Kind] = [named] if named else [kind for kind in kinds().values() if kind.scoring]
    scoring = {f"how it is scored ({kind.holds})": kind.scores() for kind in shown}
    reading = (named or next(iter(built_in().values()))).read()
    groups: dict[str, Any] = {"what is measured": Given, **scoring, READING: reading, MACHINE: Engine}
    first = ["what is measured", *(scoring if named else ())]
    notes = [] if named else ["Settings of one kind: attar evaluate FOLDER --help"]
    return settings_help(
        USAGE,
        groups,
        about=ABOUT,
        everything=EVERYTHING in words,
        first=first,
        positional=("folders",),
        notes=notes,
    )
