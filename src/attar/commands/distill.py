"""`attar distill METHOD`: a trained classifier into a student."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attar.commands.methods import list_methods
from attar.commands.shared import Reading, parse, speaker
from attar.core.errors import InputError
from attar.core.registry import find


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(
            "usage: attar distill METHOD --teacher TEACHER --student NETWORK --data DATA [--out FOLDER] ...\n\nmethods:"
        )
        list_methods("distill")
        print("\nAll settings of a method: attar distill METHOD --help")
        return
    entry = find(arguments[0], "distill")
    settings = entry.load()
    row, rest = _taken("--paper", arguments[1:])
    default, rest = _started(entry.name, settings, row, rest)
    face = _language(entry.name, default) if entry.kind == "language" else _classifier(entry.name, default, row)
    parse(face, f"attar distill {entry.name}", rest)


def _classifier(name: str, default: Any, row: str | None) -> Callable[..., None]:
    """The command of a method that distills classifiers, from a published table's row or none."""
    settings = type(default)

    from attar.core.runtime import Engine

    def distill(
        method: settings = default,  # type: ignore[valid-type]
        data: str = "digits",
        teacher: str | None = None if row is None else settings.teacher_of(row),
        out: Path | None = None,
        seed: int = 0,
        reading: Reading = Reading(),  # noqa: B008
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Distill a classifier into a smaller one.

        Args:
            method: Settings of the method. `--paper resnet56-resnet20` (or cifar100) starts from a published table's,
                with the networks of the pair unless others are given.
            data: digits, a parquet file or folder, a folder of pictures per class, or a name on the hub.
            teacher: The folder of a trained network, transformers:NAME, or a network by name, which is trained here
                and kept; unless given that of the pair of `--paper`, or convnet:norm=batch.
            out: Folder for the student; an unfinished run there is resumed. runs/METHOD-DATA-seedN unless given.
            seed: Seed of every generator in the run.
            reading: How pictures are read.
            engine: How the machine is used.
        """
        from attar.verbs import distill as run

        source = reading.load(data, seed)
        folder = out or Path("runs") / f"{name}-{source.name}-seed{seed}"
        print(run(source, method, teacher=teacher, out=folder, seed=seed, engine=engine, say=speaker(engine.quiet)))
        print(f"saved: {folder}")

    return distill


def _language(name: str, default: Any) -> Callable[..., None]:
    """The command that distills language models."""
    from attar.core.runtime import Engine

    settings = type(default)

    def distill(
        method: settings = default,  # type: ignore[valid-type]
        data: str = "phrases",
        teacher: str | None = None,
        tokenizer: str | None = None,
        corpus: str | None = None,
        answers: int = 32,
        out: Path | None = None,
        seed: int = 0,
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Distill a causal language model into a smaller one.

        Args:
            method: Settings of the method. `--baseline gkd` starts from a method of the field (sft, seqkd, kd, imitkd,
                gkd, distillm, minillm, full), `--paper gpt2-0.1b` from the released scripts for a family of students.
            data: phrases (generated), a file of JSON lines or of text, a folder of such, or a name on the hub.
            teacher: A causal model of transformers: its folder, or its name on the hub; left out, a student alone.
            tokenizer: A tokenizer's folder or name, where no model brings one.
            corpus: Further text, read as data are, whose cross-entropy is added (`--corpus-weight`), so that the
                student forgets less.
            answers: Test prompts that both answer for ROUGE-L, length, repetition and excess error.
            out: Folder for the student; an unfinished run there is resumed. runs/language-DATA-seedN unless given.
            seed: Seed of every generator in the run.
            engine: How the machine is used.
        """
        from attar.language.verbs import distill as run

        folder = out or Path("runs") / f"{name}-{Path(data).stem}-seed{seed}"
        given: dict[str, Any] = {"teacher": teacher, "tokenizer": tokenizer, "corpus": corpus, "answers": answers}
        print(run(data, method, out=folder, seed=seed, engine=engine, say=speaker(engine.quiet), **given))
        print(f"saved: {folder}")

    return distill


def _started(name: str, settings: Any, row: str | None, words: list[str]) -> tuple[Any, list[str]]:
    """The settings to start from, those of a published row if any, and the words without `--baseline METHOD`."""
    method, words = _taken("--baseline", words)
    if row is not None and not hasattr(settings, "paper"):
        raise InputError(f"{name} has no published settings; leave out --paper.")
    if method is not None and not hasattr(settings, "baseline"):
        raise InputError(f"{name} is one method; leave out --baseline.")
    if method is not None:
        # Epochs that are asked for take the place of a method's own number of steps.
        epochs = {"epochs": settings().epochs} if any(word.split("=")[0] == "--epochs" for word in words) else {}
        return settings.baseline(method, **epochs) if row is None else settings.paper(row, method, **epochs), words
    return settings() if row is None else settings.paper(row), words


def _taken(flag: str, words: list[str]) -> tuple[str | None, list[str]]:
    """What follows a flag, and the words without both; None where it is not there."""
    if flag not in words:
        return None, words
    place = words.index(flag)
    return "".join(words[place + 1 : place + 2]), [*words[:place], *words[place + 2 :]]
