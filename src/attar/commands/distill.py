"""`attar distill METHOD`: a trained classifier into a student."""

from pathlib import Path

from attar.commands.methods import list_methods
from attar.commands.shared import Reading, parse, speaker
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
    default = settings()

    from attar.core.runtime import Engine

    def distill(
        method: settings = default,  # type: ignore[valid-type]
        data: str = "digits",
        teacher: str | None = None,
        out: Path | None = None,
        seed: int = 0,
        reading: Reading = Reading(),  # noqa: B008
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Distill a classifier into a smaller one.

        Args:
            method: Settings of the method.
            data: digits, a parquet file or folder, a folder of pictures per class, or a name on the hub.
            teacher: The folder of a trained network, transformers:NAME, or a network by name, which is trained here
                and kept; convnet:norm=batch unless given.
            out: Folder for the student; an unfinished run there is resumed. runs/METHOD-DATA-seedN unless given.
            seed: Seed of every generator in the run.
            reading: How pictures are read.
            engine: How the machine is used.
        """
        from attar.verbs import distill as run

        source = reading.load(data, seed)
        folder = out or Path("runs") / f"{entry.name}-{source.name}-seed{seed}"
        print(run(source, method, teacher=teacher, out=folder, seed=seed, engine=engine, say=speaker(engine.quiet)))
        print(f"saved: {folder}")

    parse(distill, f"attar distill {entry.name}", arguments[1:])
