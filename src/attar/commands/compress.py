"""`attar compress METHOD`: a mixture into fewer components, the convolutions of a network into fewer bytes."""

from pathlib import Path

from attar.commands.methods import list_methods
from attar.commands.shared import parse, speaker
from attar.core.registry import find

DATA = {"mixtures": "digits", "convolution": "digits"}
"""What is compressed unless something is named."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: attar compress METHOD --data DATA [--out FOLDER] ...\n\nmethods:")
        list_methods("compress")
        print("\nAll settings of a method: attar compress METHOD --help")
        return
    entry = find(arguments[0], "compress")
    settings, usual = entry.load(), DATA[entry.kind]
    default = settings()

    from attar.core.runtime import Engine

    def compress(
        method: settings = default,  # type: ignore[valid-type]
        data: str = usual,
        out: Path | None = None,
        seed: int = 0,
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Compress in closed form.

        Args:
            method: Settings of the method.
            data: Of mixtures: a mixture's file, a table of samples to fit one to, digits or standard-1d. Of
                convolutions: the images on which layers are measured.
            out: Folder for the artefact; runs/METHOD-DATA unless given. What lies there is replaced.
            seed: Seed of every generator.
            engine: How the machine is used.
        """
        from attar.verbs import compress as run

        folder = out or Path("runs") / f"{entry.name}-{Path(data).stem}"
        print(run(data, method, out=folder, seed=seed, engine=engine, say=speaker(engine.quiet)))
        print(f"saved: {folder}")

    parse(compress, f"attar compress {entry.name}", arguments[1:])
