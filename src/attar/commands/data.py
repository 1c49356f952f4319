"""`attar data DATA`: what a data set holds, as attar reads it."""

from attar.commands.shared import Reading, parse


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    from tyro.conf import Positional

    def data(
        data: Positional[str] = "digits",
        reading: Reading = Reading(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        """Say what a data set holds, as attar reads it.

        Args:
            data: digits, a parquet file or folder in Hugging Face form, a folder of pictures per class, or a name on
                the hub: user/name, or user/name:configuration.
            reading: How pictures are read.
            seed: Draws the 80/20 split of a set without test images.
        """
        source = reading.load(data, seed)
        print(source)
        print(f"mean {source.transform.mean}, spread {source.transform.std}, fingerprint {source.fingerprint}")
        if source.streamed:
            print(f"{source.bytes / 1e9:.1f} GB once decoded: left on disk, and decoded batch by batch")
        tested = source.test.labels.bincount(minlength=len(source.classes)).tolist()
        for name, rows, test_images in zip(source.classes, source.rows_of, tested, strict=True):
            print(f"  {name:<24} {len(rows):,} training images, {test_images:,} to test on")

    parse(data, "attar data", arguments)
