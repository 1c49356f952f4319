"""`attar label FOLDER`: store a teacher's answers to many views of every image beside a condensed set."""

from pathlib import Path

from attar.commands.shared import Reading, parse, speaker


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    from tyro.conf import Positional

    from attar.core.runtime import Engine
    from attar.images.labels.stored import StoreLabels
    from attar.images.networks.architecture import Architecture

    def label(
        folder: Positional[Path],
        data: str | None = None,
        how: StoreLabels = StoreLabels(),  # noqa: B008
        architecture: Architecture = Architecture(norm="batch"),  # noqa: B008
        seed: int = 0,
        reading: Reading = Reading(),  # noqa: B008
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Store soft labels below the folder of a condensed set; an unfinished run there is resumed.

        Args:
            folder: The condensed set.
            data: What a teacher is trained on where neither the set nor --teacher brings one.
            how: How many labels, in which form, and whose.
            architecture: The teacher, where it is trained.
            seed: Draws the views.
            reading: How the data's pictures are read.
            engine: How the machine is used.
        """
        from attar.verbs import label as store

        source = reading.load(data, seed) if data else None
        small = store(
            folder, how, data=source, architecture=architecture, seed=seed, engine=engine, say=speaker(engine.quiet)
        )
        assert small.soft is not None
        size, images = small.soft.bytes, small.bytes - small.soft.bytes
        print(
            f"{folder}: labels of {small.soft.epochs} epochs, {size:,} bytes, {small.soft.bytes_per_label:,} each; "
            f"all else {images:,} bytes"
        )
        print(f"score:   attar evaluate {folder} --data {data or small.origin.source} --protocol sre2l")

    parse(label, "attar label", arguments)
