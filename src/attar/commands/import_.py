"""`attar import FILE`: turn a released condensed set, or what else others have released, into an artefact."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attar.commands.data import kind_named_in
from attar.commands.making import MACHINE, READING, finish
from attar.core.errors import InputError
from attar.core.flags import FlagText, parse, texts_of
from attar.core.help import EVERYTHING, HELP, settings_help
from attar.core.kinds import Kind, kind_with, worded_with
from attar.core.machine import Engine
from attar.core.registry import usual
from attar.core.settings import Settings

VERB = "import"
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
    worded = worded_with(VERB)
    word = arguments[0] if arguments and arguments[0] in worded else ""
    kind, arguments = _kind(word, worded, arguments), arguments[bool(word) :]
    task, program = kind.task(VERB), " ".join(["attar", VERB, *([word] if word else [])])
    released = usual(kind, VERB)
    if not arguments or any(asked in HELP for asked in arguments):
        titles = ("what is imported", "how it is understood", READING, MACHINE)
        groups: dict[str, Any] = dict(zip(titles, (_given(task), released.flags, kind.read(), Engine), strict=True))
        first, everything = titles[:2], EVERYTHING in arguments
        usage = f"usage: {program} FILE --data DATA [--out FOLDER] ..." if word else USAGE
        about = (task.__doc__ or "").strip() if word else ABOUT
        notes = [] if word else [f"For something else: attar {VERB} {other} --help" for other in worded]
        told: dict[str, Any] = {"everything": everything, "first": first, "positional": ("files",), "notes": notes}
        print(settings_help(usage, groups, about=about, **told))
        return
    parts = {"given": Given, "method": released.load(), "reading": kind.read()(), "engine": Engine()}
    read = parse(parts, arguments, program=program, positional=("files",))
    given = read["given"]
    names = [file.name if file.is_dir() else file.stem for file in given.files]
    out = given.out or Path("runs") / f"import-{next(iter(names), 'set')}"
    finish(VERB, kind, {**read, "given": replace(given, out=out), "task": task(files=given.files)}, given.data)


def _kind(word: str, worded: dict[str, Kind], arguments: list[str]) -> Kind:
    """The kind that a further word means, or that `--kind` names, or the usual one."""
    named = kind_named_in(arguments)
    if word:
        return worded[word]
    for other, kind in worded.items():
        if named is kind:
            raise InputError(f"for --kind {kind.name}, give `attar {VERB} {other} FILE`.")
    return kind_with(VERB, named.name if named else "")


def _given(task: Any) -> tuple[FlagText, ...]:
    """What is given, in words; of a task with a word of its own, in its own."""
    texts = texts_of(Given)
    if not task.word:
        return texts
    own = dict(task.meanings)
    return tuple(
        replace(text, sentence=own.get(text.setting, text.sentence)) for text in texts if text.setting != "kind"
    )
