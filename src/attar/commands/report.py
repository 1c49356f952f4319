"""`attar report FOLDER`: write one static page about everything below a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from attar.core.flags import parse
from attar.core.help import HELP, settings_help
from attar.core.settings import Range, Settings

USAGE = "usage: attar report FOLDER [--out FILE] ..."
ABOUT = "Write one static page with every artefact below a folder: pictures, settings, costs and scores."


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """The folder, the page and its pictures."""

    folder: Path
    """Folder of the runs."""
    out: Path | None = None
    """File of the page. Default: report.html in the folder."""
    images: Annotated[int, Range(1)] = 10
    """Largest number of pictures that are shown of a class."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or any(word in HELP for word in arguments):
        print(settings_help(USAGE, {"settings": Given}, about=ABOUT, positional=("folder",)))
        return
    given = parse({"given": Given}, arguments, program="attar report", positional=("folder",))["given"]

    from attar.reporting.page import report

    print(report(given.folder, out=given.out, images=given.images))
