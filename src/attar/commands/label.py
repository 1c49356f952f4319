"""`attar label FOLDER`, `attar label --data DATA`: store a teacher's answers, beside a condensed set or to data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.commands.data import kind_named_in
from attar.commands.making import MACHINE, READING, finish, speaker
from attar.commands.presets import taken, words_of
from attar.core.errors import InputError, shortened
from attar.core.flags import is_flag, parse
from attar.core.help import EVERYTHING, HELP, settings_help
from attar.core.kinds import Kind, kind_in, kind_with, kind_working_on, kinds
from attar.core.machine import Engine
from attar.core.registry import Entry, usual
from attar.core.settings import Settings

VERB = "label"
USAGE = "usage: attar label FOLDER [--epochs N] [--teacher TEACHER | --data DATA] ..."
ABOUT = "Store a teacher's answers to many views of every sample beside a condensed set. Students then learn from them."
USAGE_OF_DATA = "usage: attar label --teacher TEACHER --data DATA [--out FOLDER] ..."


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """What is labelled."""

    folder: Path
    """Folder of the condensed set. Unfinished labels in it are continued."""
    kind: str = ""
    """Kind of what is labelled, if attar does not recognise it."""
    seed: int = 0
    """Seed of the views."""


@dataclass(frozen=True, kw_only=True)
class GivenData(Settings):
    """Which data are answered."""

    data: str
    """Data whose training samples are answered."""
    out: Path | None = None
    """Folder of the answers. An unfinished run in it is resumed. Default: runs/answers-DATA-seedN."""
    kind: str = ""
    """Kind of the data, if attar does not recognise them."""
    seed: int = 0
    """Seed that is stored with the answers."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    kind = _kind(arguments)
    task, labels = kind.task(VERB), usual(kind, VERB)
    if not arguments or any(word in HELP for word in arguments):
        print(_help(kind, labels, everything=EVERYTHING in arguments))
        return
    _check_loose(arguments, kind)
    given = Given if task.of_artefact else GivenData
    parts = {"given": given, "method": labels.load(), "task": task, "engine": Engine()}
    if not task.of_artefact:
        read = parse({**parts, "reading": kind.read()()}, arguments, program=f"attar {VERB} --kind {kind.name}")
        finish(VERB, kind, read, read["given"].data)
        return
    read = parse(parts, arguments, program=f"attar {VERB}", positional=("folder",))
    given, engine = read["given"], read["engine"]

    from attar.verbs import run

    made = run(
        VERB,
        given.folder,
        read["method"],
        task=read["task"],
        seed=given.seed,
        engine=engine,
        say=speaker(engine.quiet),
    )
    for line in read["task"].told(made, given.folder):
        print(line)


def _kind(arguments: list[str]) -> Kind:
    """The kind that `--kind` names; that of the artefact that is labelled; that whose data these are; the usual one."""
    named = kind_named_in(arguments)
    if named is not None:
        return kind_with(VERB, named.name)
    having = {name: kind for name, kind in kinds().items() if VERB in kind.tasks}
    usual_kind, *_ = (kind for kind in having.values() if kind.task(VERB).of_artefact)
    for word in arguments:
        found = None if is_flag(word) else kind_in(Path(word).expanduser())
        if found is not None and found.name in having and found.task(VERB).of_artefact:
            return found
    data = [kind_working_on(VERB, word) for word in words_of("data", arguments)]
    return next((kind for kind in data if kind is not None), usual_kind)


def _check_loose(arguments: list[str], kind: Kind) -> None:
    """Check that a set is given as a folder, and data by a flag.

    Raises:
        InputError: They are not.
    """
    (named,), words = taken(("--kind",), arguments)
    of_folder, data = kind.task(VERB).of_artefact, words_of("data", words)
    first = words[0] if words and not is_flag(words[0]) else ""
    if first and (not of_folder or (kind_in(Path(first).expanduser()) is None and kind_working_on(VERB, first))):
        if data:
            raise InputError(
                f"attar {VERB} takes neither METHOD nor FOLDER with --data. Leave out {shortened(first)!r}."
            )
        raise InputError(f"data are given by a flag. Give --data {shortened(first)}.")
    if of_folder and named is None and not _loose(words):
        others = [one.name for one in kinds().values() if VERB in one.tasks and not one.task(VERB).of_artefact]
        known = f", and {shortened(data[0])!r} is not recognised as data of {' or '.join(others)}" if data else ""
        raise InputError(
            f"no FOLDER of a condensed set is given{known}. Give a folder, or --data DATA --kind {'|'.join(others)}."
        )


def _loose(words: list[str]) -> list[str]:
    """The words that are no flag, and do not follow one that may take them."""
    before = ["", *words]
    return [
        one for last, one in zip(before, words, strict=False) if not is_flag(one) and (not is_flag(last) or "=" in last)
    ]


def _help(kind: Kind, labels: Entry, *, everything: bool) -> str:
    """Help of the verb for a kind, with the command that prints that of the others."""
    task = kind.task(VERB)
    of_data = ["data, folder and seed", "the answers", "the teacher"]
    first = ["what is labelled", "the labels", "the teacher"] if task.of_artefact else of_data
    given = Given if task.of_artefact else GivenData
    groups: dict[str, Any] = dict(zip(first, (given, labels.everyday, task), strict=True))
    groups |= {"further settings": tuple(flag for flag in labels.flags if not flag.everyday)}
    groups |= {} if task.of_artefact else {READING: kind.read()}
    others = [one for name, one in kinds().items() if VERB in one.tasks and name != kind.name]
    return settings_help(
        USAGE if task.of_artefact else USAGE_OF_DATA,
        {**groups, MACHINE: Engine},
        about=ABOUT if task.of_artefact else (task.__doc__ or "").strip(),
        everything=everything,
        first=first,
        positional=("folder",) if task.of_artefact else (),
        notes=[f"For {one.holds}: attar {VERB} --kind {one.name} --help" for one in others],
        command="" if task.of_artefact else f"attar {VERB} --kind {kind.name}",
    )
