"""`attar import FILE`: turn a released condensed set into an artefact."""

from dataclasses import dataclass, replace
from pathlib import Path

from attar.commands.data import kind_named_in
from attar.commands.making import MACHINE, READING, finish
from attar.core.flags import parse
from attar.core.help import EVERYTHING, HELP, settings_help
from attar.core.kinds import kind_with
from attar.core.machine import Engine
from attar.core.registry import usual
from attar.core.settings import Settings

USAGE = "usage: attar import FILES... --data DATA [--out FOLDER] ..."
ABOUT = "Turn a condensed set that others have released into an artefact. It can then be evaluated like any other."


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """What is imported, and where to."""

    files: tuple[Path, ...]
    """One .pt, .npz or .safetensors file, separate files of images, labels and step size, or a folder of pictures."""
    data: str
    """Data that the set was condensed from."""
    out: Path | None = None
    """Folder of the artefact. Default: runs/import-NAME."""
    kind: str = ""
    """Kind of the set. Default: images."""
    seed: int = 0
    """Seed that is stored with the set."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    wanted = kind_named_in(arguments)
    kind = kind_with("import", wanted.name if wanted else "")
    task = kind.task("import")
    released = usual(kind, "import")
    if not arguments or any(word in HELP for word in arguments):
        titles = ("what is imported", "how it is understood", READING, MACHINE)
        groups = dict(zip(titles, (Given, released.flags, kind.read(), Engine), strict=True))
        first, everything = titles[:2], EVERYTHING in arguments
        print(settings_help(USAGE, groups, about=ABOUT, everything=everything, first=first, positional=("files",)))
        return
    parts = {"given": Given, "method": released.load(), "reading": kind.read()(), "engine": Engine()}
    read = parse(parts, arguments, program="attar import", positional=("files",))
    given = read["given"]
    names = [file.name if file.is_dir() else file.stem for file in given.files]
    out = given.out or Path("runs") / f"import-{next(iter(names), 'set')}"
    finish("import", kind, {**read, "given": replace(given, out=out), "task": task(files=given.files)}, given.data)
