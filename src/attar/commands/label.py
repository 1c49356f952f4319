"""`attar label FOLDER`: store a teacher's answers to many views of every sample beside a condensed set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.commands.making import MACHINE, speaker
from attar.core.flags import is_flag, parse
from attar.core.help import EVERYTHING, HELP, settings_help
from attar.core.kinds import BUILT_IN, kind_in, kind_named
from attar.core.machine import Engine
from attar.core.registry import usual
from attar.core.settings import Settings

USAGE = "usage: attar label FOLDER [--epochs N] [--teacher TEACHER | --data DATA] ..."
ABOUT = "Store a teacher's answers to many views of every sample beside a condensed set. Students then learn from them."


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """What is labelled."""

    folder: Path
    """Folder of the condensed set. Unfinished labels in it are continued."""
    seed: int = 0
    """Seed of the views."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    folder = next((Path(word).expanduser() for word in arguments if not is_flag(word)), Path())
    kind = kind_in(folder) or kind_named(BUILT_IN[0])
    task = kind.task("label")
    labels = usual(kind, "label")
    if not arguments or any(word in HELP for word in arguments):
        first, everything = ["what is labelled", "the labels", "the teacher"], EVERYTHING in arguments
        groups: dict[str, Any] = dict(zip(first, (Given, labels.everyday, task), strict=True))
        groups |= {"further settings": tuple(flag for flag in labels.flags if not flag.everyday), MACHINE: Engine}
        print(settings_help(USAGE, groups, about=ABOUT, everything=everything, first=first, positional=("folder",)))
        return
    parts = {"given": Given, "method": labels.load(), "task": task, "engine": Engine()}
    read = parse(parts, arguments, program="attar label", positional=("folder",))
    given, engine = read["given"], read["engine"]

    from attar.verbs import run

    made = run(
        "label",
        given.folder,
        read["method"],
        task=read["task"],
        seed=given.seed,
        engine=engine,
        say=speaker(engine.quiet),
    )
    for line in read["task"].told(made, given.folder):
        print(line)
