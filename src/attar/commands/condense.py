"""`attar condense METHOD`: a labelled data set into a few samples per class."""

from itertools import takewhile
from pathlib import Path
from typing import Any

from attar.commands.methods import list_methods
from attar.commands.shared import Reading, parse, speaker
from attar.core.errors import InputError, unknown
from attar.core.registry import find


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: attar condense METHOD --data DATA [--ipc N] [--out FOLDER] ...\n\nmethods:")
        list_methods("condense")
        print("\nAll settings of a method: attar condense METHOD --help")
        return
    entry = find(arguments[0], "condense")
    preset, rest = _preset(arguments[1:])
    settings = entry.load()

    from attar.core.runtime import Engine

    default = _paper_settings(entry.name, settings, preset, rest) if preset else settings()

    def condense(
        method: settings = default,  # type: ignore[valid-type]
        data: str = "digits",
        out: Path | None = None,
        seed: int = 0,
        reading: Reading = Reading(),  # noqa: B008
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Turn a labelled data set into a few images per class.

        Args:
            method: Settings of the method. `--paper cifar10 [--variant released]` starts from a published table's.
            data: digits, a parquet file or folder in Hugging Face form, a folder of pictures per class, or a name on
                the hub: user/name, or user/name:configuration.
            out: Folder for the artefact; an unfinished run there is resumed. runs/METHOD-DATA-IPC unless given.
            seed: Seed of every generator in the run.
            reading: How pictures are read.
            engine: How the machine is used.
        """
        from attar.verbs import condense as run

        say = speaker(engine.quiet)
        source = reading.load(data, seed)
        ipc = method.ipc if isinstance(method.ipc, int) else "mixed"  # type: ignore[attr-defined]
        folder = out or Path("runs") / f"{entry.name}-{source.name}-{ipc}-seed{seed}"
        small = run(source, method, out=folder, seed=seed, engine=engine, say=say)
        share = 100 * small.bytes / small.origin.full_bytes
        print(f"{folder}: {len(small.labels)} images, {small.bytes:,} bytes ({share:.2g} % of the full set)")
        print(f"picture: {folder / 'preview.png'}")
        print(f"score:   attar evaluate {folder} --data {data}")

    parse(condense, f"attar condense {entry.name}", rest)


def _preset(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Take `--paper NAME` and `--variant NAME` out of the arguments."""
    found, rest = {}, []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("--paper", "--variant"):
            found[name[2:]] = value if equals else next(words, "")
        else:
            rest.append(word)
    return found, rest


def _paper_settings(name: str, settings: Any, preset: dict[str, str], rest: list[str]) -> Any:
    if not hasattr(settings, "paper"):
        raise InputError(f"{name} has no published settings; leave out --paper.")
    if "paper" not in preset:
        raise InputError("--variant goes with --paper, which names a data set of the paper's table.")
    variants = {"variant": preset["variant"]} if "variant" in preset else {}
    if variants and preset["variant"] not in ("paper", "released"):
        raise unknown("variant", preset["variant"], ["paper", "released"])
    ipc = _ipc_words(rest) or ["10"]
    if len(ipc) > 1:
        raise InputError("a cell of a published table has one ipc for all classes; give one number, or no --paper.")
    if not ipc[0].isdigit() or ipc[0] == "0":
        raise InputError(f"ipc is {ipc[0]}; it must be at least 1.")
    try:
        return settings.paper(preset["paper"], ipc=int(ipc[0]), **variants)
    except TypeError:
        raise InputError(f"{name} has one published variant only; leave out --variant.") from None


def _ipc_words(words: list[str]) -> list[str]:
    """The numbers that follow `--ipc`, or stand behind its equals sign."""
    for place, word in enumerate(words):
        if word.startswith("--ipc="):
            return [word.removeprefix("--ipc=")]
        if word == "--ipc":
            return list(takewhile(lambda value: not value.startswith("--"), words[place + 1 :]))
    return []
