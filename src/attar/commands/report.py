"""`attar report FOLDER`: everything below a folder, as one static page."""

from pathlib import Path

from attar.commands.shared import at_least_one, parse


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    from tyro.conf import Positional

    def report(folder: Positional[Path], out: Path | None = None, images: int = 10) -> None:
        """Write one page with pictures, curves, scores and tables; it needs no network and no server.

        Args:
            folder: Where runs lie.
            out: The file; report.html in the folder unless given.
            images: Pictures of a class that are shown at most.
        """
        from attar.reporting.page import report as write

        at_least_one(images=images)
        print(write(folder, out=out, images=images))

    parse(report, "attar report", arguments)
