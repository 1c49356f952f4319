"""`attar VERB METHOD --data DATA`: the command of every verb that runs a method, for every kind."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attar.commands.again import Again, read_again
from attar.commands.presets import PRESETS, Started, listed, started, words_of
from attar.commands.verbs import VERBS
from attar.core.errors import InputError
from attar.core.flags import FlagText, is_flag, parse, texts_of
from attar.core.help import EVERYTHING, HELP, fitting, method_help, verb_help
from attar.core.kinds import Kind, kind_named
from attar.core.launcher import check_shared
from attar.core.machine import Engine
from attar.core.provenance import Call, as_typed
from attar.core.registry import Entry, find
from attar.core.settings import Settings
from attar.core.tasks import Task

READING, MACHINE = "how data are read", "how the machine is used"
GROUPS = ("data, folder and seed", "beside the method", READING, MACHINE)
STARTS = {
    "--paper": "published settings ({})",
    "--baseline": "a method of the field ({})",
    "--settings": "the settings of another run ({})",
}
"""What settings may start from, by the flag that says so; `--variant` stands beside `--paper`."""


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """What every verb with a method is given."""

    data: str | None = None
    """Data to read."""
    out: Path | None = None
    """Folder of the artefact. An unfinished run in it is resumed."""
    seed: int = 0
    """Seed of every generator in the run."""


def main(verb: str, arguments: Sequence[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or arguments[0] in HELP:
        print(verb_help(verb, VERBS[verb][1], everything=EVERYTHING in arguments))
        return
    again, words = read_again(verb, list(arguments))
    if again is None and (not words[0] or is_flag(words[0])):
        raise InputError(f"METHOD must be given before {words[0] or repr('')}. All methods: attar {verb} --help")
    entry = find(again.method if again else words.pop(0), verb)
    kind = kind_named(entry.kind)
    wanted = [word for word in words if word in HELP]
    if wanted and not again and not any(word.split("=")[0] in PRESETS for word in words):
        print(help_of(entry, kind, everything=EVERYTHING in wanted))
        return
    cells = listed(entry, words) if again is None else None
    if cells is not None:
        print("\n".join(fitting(line, sys.stdout) for line in cells.splitlines()))
        return
    start = started(entry, kind, [word for word in words if word not in HELP], again)
    if wanted:
        everyday = [flag.flag[2:] for flag in entry.everyday]
        from_there = replace(entry, flags=texts_of(start.method, everyday))
        print(help_of(from_there, kind, everything=EVERYTHING in wanted, task=start.task))
        return
    make(entry, kind, start, again or Again(entry.name))


def help_of(entry: Entry, kind: Kind, *, everything: bool, task: Task | None = None) -> str:
    """Help of a method; torch is not imported for it, unless a preset says what the defaults are."""
    beside = task or kind.task(entry.verb)
    groups = dict(zip(GROUPS, (_given(entry, kind), beside, kind.read(), Engine), strict=True))
    usage = "--data DATA [--out FOLDER] ..." if entry.reads else "[--out FOLDER] ..."
    return method_help(entry, groups, everything=everything, usage=usage, first=GROUPS[:2], notes=[_starts(entry)])


def _given(entry: Entry, kind: Kind) -> tuple[FlagText, ...]:
    """What every verb with a method is given, with what that means for this one."""
    texts = {text.flag: text for text in texts_of(Given)}
    place = kind.task(entry.verb)().place(
        Path("runs") / "-".join([entry.name, *(["DATA"] if entry.reads else []), *_size(entry, kind), "seedN"])
    )
    takes = entry.takes(kind)
    texts["--data"] = replace(
        texts["--data"],
        sentence=f"The data{f': {takes}' if takes else ''}.",
        default=entry.usual(kind) or "must be given",
    )
    if not entry.reads:
        del texts["--data"]
    texts["--out"] = replace(texts["--out"], default="nothing" if place is None else str(place))
    return tuple(texts.values())


def _size(entry: Entry, kind: Kind) -> list[str]:
    return [kind.size.upper().replace("_", "-")] if any(flag.setting == kind.size for flag in entry.flags) else []


def _starts(entry: Entry) -> str:
    """What the settings of a method may start from."""
    told: dict[str, list[str]] = {}
    for preset in [*entry.presets, "--settings FOLDER"]:
        flag = preset.split()[0]
        told.setdefault("--paper" if flag == "--variant" else flag, []).append(preset)
    starts = [STARTS[flag].format(" ".join(presets)) for flag, presets in told.items()]
    return f"Start from {', or '.join([', '.join(starts[:-1]), starts[-1]] if starts[1:] else starts)}."


def make(entry: Entry, kind: Kind, start: Started, again: Again) -> None:
    """Parse the settings, run the method, and say what came out and how to go on."""
    program = f"attar {entry.verb} {entry.name}"
    kind, task, call = _reader(entry, kind, start)
    known = again.reading or call.get("reading") or {}
    parts = {
        "given": Given(data=again.data or call.get("data"), seed=again.seed),
        "method": start.method,
        "task": task,
        "reading": replace(again, reading=known).read(kind.read()),
        "engine": Engine(),
    }
    read = parse(parts, start.words, program=program, others=[*PRESETS, "--settings"])
    given: Given = read["given"]
    if given.data and not entry.reads:
        raise InputError(f"{entry.name} reads no data. Leave out --data.")
    data = given.data or entry.usual(kind)
    if entry.reads and not data:
        raise InputError(f"--data must be given: {entry.takes(kind)}. For help: {program} --help")
    finish(entry.verb, kind, read, data)


def _reader(entry: Entry, kind: Kind, start: Started) -> tuple[Kind, Task, Mapping[str, Any]]:
    """The kind that reads the data, its task, and the call that made what the method works on, if another kind did."""
    if not start.task.follows:
        return kind, start.task, {}
    from attar.verbs import followed

    named = words_of(start.task.follows, start.words)
    return followed(kind, entry.verb, start.task, named[0] if named else None)


def finish(verb: str, kind: Kind, read: Mapping[str, Any], data: str) -> None:
    """Run a method as the words ask, and print what came out."""
    from attar.verbs import run

    given, method, task, reading, engine = (read[name] for name in ("given", "method", "task", "reading", "engine"))
    check_shared(method, method.name)
    call = Call.of(verb, kind.name, data, reading, task, method)
    source = task.source(data, reading)
    folder = given.out or task.place(default_folder(kind, method, source, given.seed))
    how: dict[str, Any] = {"seed": given.seed, "engine": engine, "say": speaker(engine.quiet), "call": call}
    made = run(verb, source, method, task=task, reading=reading, out=folder, **how)
    for line in task.told(made, folder, "" if as_typed(data) == data else data):
        print(fitting(line, sys.stdout))


def default_folder(kind: Kind, method: Any, source: Any, seed: int) -> Path:
    """`runs/METHOD-DATA-SIZE-seedN`."""
    size = getattr(method, kind.size, None) if kind.size else None
    words = [
        method.name,
        *([] if source is None else [source.name]),
        *([] if size is None else ["mixed" if isinstance(size, tuple) else str(size)]),
    ]
    return Path("runs") / "-".join([*words, f"seed{seed}"]).replace("/", "-")


def speaker(quiet: bool) -> Callable[[str], None]:
    """Where a verb says what happens: standard error, or nowhere."""
    if quiet:
        return lambda line: None
    return lambda line: print(fitting(line, sys.stderr), file=sys.stderr)
