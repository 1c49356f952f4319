"""`attar condense METHOD`: a labelled data set into a few samples per class."""

from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

from attar.commands.methods import list_methods
from attar.commands.shared import Reading, parse, speaker
from attar.core.errors import InputError, unknown
from attar.core.registry import Entry, find


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: attar condense METHOD --data DATA [--ipc N | --gpc N] [--out FOLDER] ...\n\nmethods:")
        list_methods("condense")
        print("\nAll settings of a method: attar condense METHOD --help")
        return
    entry = find(arguments[0], "condense")
    preset, rest = _preset(arguments[1:])
    settings = entry.load()
    default = _paper_settings(entry, settings, preset, rest) if preset else settings()
    face = _graphs if entry.kind == "graphs" else _images
    parse(face(entry.name, default), f"attar condense {entry.name}", rest)


def _images(name: str, default: Any) -> Callable[..., None]:
    """The command of a method that condenses images."""
    from attar.core.runtime import Engine

    settings = type(default)

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
        from attar.images.artefact import CondensedImages
        from attar.verbs import condense as run

        say = speaker(engine.quiet)
        source = reading.load(data, seed)
        ipc = method.ipc if isinstance(method.ipc, int) else "mixed"  # type: ignore[attr-defined]
        folder = out or Path("runs") / f"{name}-{source.name}-{ipc}-seed{seed}"
        small: CondensedImages = run(source, method, out=folder, seed=seed, engine=engine, say=say)
        share = 100 * small.bytes / small.origin.full_bytes
        print(f"{folder}: {len(small.labels)} images, {small.bytes:,} bytes ({share:.2g} % of the full set)")
        print(f"picture: {folder / 'preview.png'}")
        print(f"score:   attar evaluate {folder} --data {data}")

    return condense


def _graphs(name: str, default: Any) -> Callable[..., None]:
    """The command of a method that condenses graphs."""
    from attar.core.runtime import Engine

    settings = type(default)

    def condense(
        method: settings = default,  # type: ignore[valid-type]
        data: str = "motifs",
        out: Path | None = None,
        seed: int = 0,
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Turn a set of labelled graphs into a few graphs per class.

        Args:
            method: Settings of the method. `--paper MUTAG [--variant released]` starts from a published table's.
            data: motifs, the folder of a TU set, or ogbg-molhiv and its siblings.
            out: Folder for the artefact; an unfinished run there is resumed. runs/METHOD-DATA-GPC unless given.
            seed: Seed of every generator in the run.
            engine: How the machine is used.
        """
        from attar.graphs.artefact import CondensedGraphs
        from attar.graphs.sources import load
        from attar.verbs import condense as run

        source = load(data, seed=seed)
        gpc = method.gpc  # type: ignore[attr-defined]
        folder = out or Path("runs") / f"{name}-{source.name}-{gpc}-seed{seed}"
        small: CondensedGraphs = run(source, method, out=folder, seed=seed, engine=engine, say=speaker(engine.quiet))
        print(f"{folder}: {small}")
        print(f"picture: {folder / 'preview.png'}")
        print(f"score:   attar evaluate {folder} --data {data}")

    return condense


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


def _paper_settings(entry: Entry, settings: Any, preset: dict[str, str], rest: list[str]) -> Any:
    name, count = entry.name, "gpc" if entry.kind == "graphs" else "ipc"
    if not hasattr(settings, "paper"):
        raise InputError(f"{name} has no published settings; leave out --paper.")
    if "paper" not in preset:
        raise InputError("--variant goes with --paper, which names a data set of the paper's table.")
    variants = {"variant": preset["variant"]} if "variant" in preset else {}
    if variants and preset["variant"] not in ("paper", "released"):
        raise unknown("variant", preset["variant"], ["paper", "released"])
    words = _words_of(count, rest) or ["10"]
    if len(words) > 1:
        raise InputError(f"a published table's cell has one {count} for all classes; give one number, or no --paper.")
    if not words[0].isdigit() or words[0] == "0":
        raise InputError(f"{count} is {words[0]}; it must be at least 1.")
    try:
        return settings.paper(preset["paper"], **{count: int(words[0])}, **variants)
    except TypeError:
        raise InputError(f"{name} has one published variant only; leave out --variant.") from None


def _words_of(setting: str, words: list[str]) -> list[str]:
    """The words that follow `--setting`, or stand behind its equals sign."""
    flag = f"--{setting}"
    for place, word in enumerate(words):
        if word.startswith(f"{flag}="):
            return [word.removeprefix(f"{flag}=")]
        if word == flag:
            return list(takewhile(lambda value: not value.startswith("--"), words[place + 1 :]))
    return []
