"""`attar import FILE`: a released condensed set into an artefact."""

from pathlib import Path

from attar.commands.shared import Reading, parse


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    from tyro.conf import Positional

    from attar.images.importing import Import

    def import_released(
        files: Positional[tuple[Path, ...]],
        data: str,
        out: Path | None = None,
        how: Import = Import(),  # noqa: B008
        reading: Reading = Reading(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        """Make an artefact of a condensed set that others have released.

        Args:
            files: One .pt, .npz or .safetensors, or images, labels and step size apart, or a folder of pictures.
            data: What it was condensed from.
            out: Folder for the artefact; runs/import-NAME unless given.
            how: What the numbers mean.
            reading: How the data's pictures are read; --statistics are those that the authors used.
            seed: Draws the 80/20 split of data without test images.
        """
        from attar.verbs import import_set

        folder = out or Path("runs") / f"import-{files[0].stem if files else 'set'}"
        small = import_set(files, reading.load(data, seed), out=folder, **how.to_json())
        print(f"{folder}: {len(small.labels)} images, {small.bytes:,} bytes ({small.origin.method})")
        print(f"picture: {folder / 'preview.png'}")
        print(f"score:   attar evaluate {folder} --data {data}")

    parse(import_released, "attar import", arguments)
