"""`attar VERB METHOD --settings`: the command line, made from the settings' own types and sentences.

Two stages: the registry finds the one module that is named, and only that is imported. Torch comes late, so that
help is quick.
"""

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from attar.core.errors import InputError, Interrupted, unknown
from attar.core.registry import METHODS, find

USAGE = """usage: attar VERB ... [--help]

attar turns something large into something small that does the same job, and measures how much was kept.

verbs:
  condense METHOD --data DATA   a labelled image set into a few images per class
  evaluate FOLDER --data DATA   train fresh networks on a condensed set, test them on real images
  methods                       what there is, one line each
  data DATA                     what a data set holds, as attar reads it
  cite METHOD                   the paper, as BibTeX
  bench TABLE                   a table of methods, measured beside the published figures

first:
  attar condense datadam --data digits --ipc 10 --out runs/digits
  attar evaluate runs/digits
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit with 2 and one line on bad input, 130 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _dispatch(arguments)
    except InputError as error:
        _complain(str(error))
        sys.exit(2)
    except Interrupted as stop:
        _complain(f"{stop}; nothing is lost. To go on, run the same command again:\n  attar {_quoted(arguments)}")
        sys.exit(130)
    except KeyboardInterrupt:
        _complain("interrupted.")
        sys.exit(130)


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return
    if arguments[0] == "--version":
        from attar.core.version import __version__

        print(f"attar {__version__}")
        return
    verbs: dict[str, Callable[[list[str]], None]] = {
        "condense": _condense,
        "evaluate": _evaluate,
        "methods": _methods,
        "data": _data,
        "cite": _cite,
        "bench": _bench,
    }
    verb, *rest = arguments
    if verb not in verbs:
        raise unknown("verb", verb, verbs)
    verbs[verb](rest)


def _condense(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: attar condense METHOD --data DATA [--ipc N] [--out FOLDER] ...\n\nmethods:")
        _list_methods("condense")
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
        size: int | None = None,
        memory: float = 4.0,
        statistics: str | None = None,
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Turn a labelled data set into a few images per class.

        Args:
            method: Settings of the method. `--paper cifar10 [--variant released]` starts from a published table's.
            data: digits, a parquet file or folder in Hugging Face form, or a folder of pictures per class.
            out: Folder for the artefact; an unfinished run there is resumed. runs/METHOD-DATA-IPC unless given.
            seed: Seed of every generator in the run.
            size: Side in pixels to scale every picture to.
            memory: Budget in GB for decoded pixels.
            statistics: Channel statistics by name (cifar10, ...), or measured.
            engine: How the machine is used.
        """
        from attar.images.sources import load
        from attar.verbs import condense as run

        say = _speaker(engine.quiet)
        source = load(data, size=size, memory=memory, seed=seed, statistics=statistics)
        folder = out or Path("runs") / f"{entry.name}-{source.name}-{method.ipc}-seed{seed}"  # type: ignore[attr-defined]
        small = run(source, method, out=folder, seed=seed, engine=engine, say=say)
        share = 100 * small.bytes / small.origin.full_bytes
        print(f"{folder}: {len(small.labels)} images, {small.bytes:,} bytes ({share:.2g} % of the full set)")
        print(f"picture: {folder / 'preview.png'}")
        print(f"score:   attar evaluate {folder} --data {data}")

    _parse(condense, f"attar condense {entry.name}", rest)


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
    ipc = next((value for flag, value in pairwise(rest) if flag == "--ipc"), "10")
    if not ipc.isdigit() or ipc == "0":
        raise InputError(f"ipc is {ipc}; it must be at least 1.")
    try:
        return settings.paper(preset["paper"], ipc=int(ipc), **variants)
    except TypeError:
        raise InputError(f"{name} has one published variant only; leave out --variant.") from None


def _evaluate(arguments: list[str]) -> None:
    from tyro.conf import Positional

    from attar.core.runtime import Engine

    def evaluate(
        folder: Positional[Path],
        data: str | None = None,
        networks: tuple[str, ...] = ("convnet",),
        repeats: int = 5,
        protocol: str = "field",
        ceiling: Literal["auto", "run", "skip"] = "auto",
        seed: int = 0,
        size: int | None = None,
        memory: float = 4.0,
        statistics: str | None = None,
        json: Path | None = None,
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Train fresh networks on a condensed set and test them on the real test images.

        Args:
            folder: The condensed set.
            data: The data it was condensed from; left out, the bundled set it names.
            networks: Kinds of networks, such as convnet, mlp, convnet:norm=batch,width=64.
            repeats: Networks of each kind.
            protocol: How they are trained: field (1,000 epochs), quick (100), datadam, dc.
            ceiling: The score of all the data: auto trains it when that takes under ten minutes.
            seed: The repeats' seeds come from it, the same for every set.
            size: Side in pixels that pictures were scaled to.
            memory: Budget in GB for decoded pixels.
            statistics: Channel statistics by name, or measured.
            json: File to write the scores to as well.
            engine: How the machine is used.
        """
        from attar.core.store import write_json
        from attar.images.score import evaluate as run
        from attar.images.sources import load
        from attar.images.training import protocol_named
        from attar.verbs import open_artefact

        _at_least_one(repeats=repeats)
        small, how = open_artefact(folder), protocol_named(protocol)
        if data is None and small.origin.source != "digits":
            raise InputError(f"{folder} was condensed from {small.origin.source!r}, which is not bundled; give --data.")
        source = load(
            data or small.origin.source, size=size, memory=memory, seed=small.origin.seed, statistics=statistics
        )
        say = _speaker(engine.quiet)
        if source.fingerprint != small.origin.fingerprint and small.origin.settings.get("zca") is not True:
            say(f"note: {source.name} is not, pixel for pixel, the data that {folder} was condensed from.")
        result = run(
            small,
            source,
            networks=networks,
            repeats=repeats,
            protocol=how,
            ceiling=ceiling,
            seed=seed,
            engine=engine,
            say=say,
        )
        print(result)
        if json is not None:
            write_json(json, result.to_json())

    _parse(evaluate, "attar evaluate", arguments)


def _methods(arguments: list[str]) -> None:
    _list_methods(None)


def _list_methods(verb: str | None) -> None:
    for entry in METHODS.values():
        if verb in (None, entry.verb):
            paper = f"{entry.paper.venue} {entry.paper.year}" if entry.paper else ""
            print(f"  {entry.name:<12} {entry.verb:<10} {entry.summary:<60} {paper}".rstrip())


def _cite(arguments: list[str]) -> None:
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print("usage: attar cite METHOD")
        return
    entry = find(arguments[0])
    if entry.paper is None:
        raise InputError(f"{entry.name} has no paper of its own; cite the table you compare with.")
    print(entry.paper.bibtex(entry.name))


def _data(arguments: list[str]) -> None:
    from tyro.conf import Positional

    def data(
        data: Positional[str] = "digits",
        size: int | None = None,
        memory: float = 4.0,
        seed: int = 0,
        statistics: str | None = None,
    ) -> None:
        """Say what a data set holds, as attar reads it.

        Args:
            data: digits, a parquet file or folder in Hugging Face form, or a folder of pictures per class.
            size: Side in pixels to scale every picture to.
            memory: Budget in GB for decoded pixels.
            seed: Draws the 80/20 split of a set without test images.
            statistics: Channel statistics by name (cifar10, ...), or measured.
        """
        from attar.images.sources import load

        source = load(data, size=size, memory=memory, seed=seed, statistics=statistics)
        print(source)
        print(f"mean {source.transform.mean}, spread {source.transform.std}, fingerprint {source.fingerprint}")
        for name, rows in zip(source.classes, source.rows_of, strict=True):
            print(f"  {name:<24} {len(rows):,} training images")

    _parse(data, "attar data", arguments)


def _bench(arguments: list[str]) -> None:
    from attar.bench.tables import command

    _parse(command, "attar bench", arguments)


def _parse(function: Callable[..., None], name: str, arguments: list[str]) -> None:
    import tyro

    config = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    tyro.cli(function, prog=name, args=arguments, config=config)


def _at_least_one(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1.")


def _speaker(quiet: bool) -> Callable[[str], None]:
    if quiet:
        return lambda line: None
    return lambda line: print(line, file=sys.stderr)


def _complain(text: str) -> None:
    print(f"attar: {text}", file=sys.stderr)


def _quoted(arguments: list[str]) -> str:
    import shlex

    return shlex.join(arguments)


if __name__ == "__main__":
    main()
