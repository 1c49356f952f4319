"""`attar label FOLDER`: store a teacher's answers to many views of every sample beside a condensed set."""

from dataclasses import dataclass
from pathlib import Path

from attar.commands.making import HELP, speaker
from attar.core.flags import parse
from attar.core.help import settings_help
from attar.core.kinds import BUILT_IN, imported, kind_in, kind_named
from attar.core.machine import Engine
from attar.core.settings import Settings

USAGE = "usage: attar label FOLDER [--epochs N] [--teacher TEACHER | --data DATA] ..."


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """What is labelled."""

    folder: Path
    """The condensed set; labels that were begun there are gone on with."""
    seed: int = 0
    """Draws the views."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    folder = next((Path(word).expanduser() for word in arguments if not word.startswith("--")), Path())
    kind = kind_in(folder) or kind_named(BUILT_IN[0])
    task = kind.task("label")
    method = imported(task.usual, kind.extra)
    if not arguments or any(word in HELP for word in arguments):
        print(settings_help(USAGE, {"settings": method, "the teacher": task, "how the machine is used": Engine}))
        return
    parts = {"given": Given, "method": method, "task": task, "engine": Engine()}
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
