"""`attar import FILE`: a released condensed set into an artefact."""

from dataclasses import dataclass, replace
from pathlib import Path

from attar.commands.making import HELP, finish
from attar.commands.presets import taken
from attar.core.flags import parse
from attar.core.help import settings_help
from attar.core.kinds import imported
from attar.core.machine import Engine
from attar.core.settings import Settings

USAGE = "usage: attar import FILE... --data DATA [--out FOLDER] ..."


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """What is imported, and where to."""

    files: tuple[Path, ...]
    """One .pt, .npz or .safetensors, or images, labels and step size apart, or a folder of pictures."""
    data: str
    """What it was condensed from."""
    out: Path | None = None
    """Folder for the artefact; runs/import-NAME unless given."""
    kind: str = ""
    """What the set is of; images unless given."""
    seed: int = 0
    """Kept with the set."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    from attar.verbs import kind_with

    (wanted,), _ = taken(("--kind",), arguments)
    kind = kind_with("import", wanted or "")
    task = kind.task("import")
    parts = {"given": Given, "method": imported(task.usual), "reading": kind.read()(), "engine": Engine()}
    if not arguments or any(word in HELP for word in arguments):
        titles = ("settings", "how it is understood", "how data are read", "how the machine is used")
        print(settings_help(USAGE, dict(zip(titles, parts.values(), strict=True))))
        return
    read = parse(parts, arguments, program="attar import", positional=("files",))
    given = read["given"]
    files = tuple(file.expanduser() for file in given.files)
    out = given.out or Path("runs") / f"import-{files[0].stem if files else 'set'}"
    finish("import", kind, {**read, "given": replace(given, out=out), "task": task(files=files)}, given.data)
