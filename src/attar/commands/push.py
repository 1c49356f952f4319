"""`attar push FOLDER user/name`: an artefact to the hub."""

from dataclasses import dataclass
from pathlib import Path

from attar.core.errors import InputError
from attar.core.flags import parse
from attar.core.help import HELP, settings_help
from attar.core.settings import Settings

USAGE = "usage: attar push FOLDER user/name [--private] ..."
ABOUT = "Upload an artefact to the hub, without its run. Condensed sets become data sets, all others become models."
POSITIONAL = ("folder", "name")


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """What is uploaded, and where to."""

    folder: Path
    """An artefact of any kind."""
    name: str
    """Its name on the hub, user/name; the repository is made if it is not there."""
    private: bool = False
    """Whether only its owner sees it."""
    token: str | None = None
    """Token of the account; the one that `hf auth login` has left, unless given."""
    message: str | None = None
    """What the commit says; the hub's usual words unless given."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or any(word in HELP for word in arguments):
        print(settings_help(USAGE, {"settings": Given}, about=ABOUT, positional=POSITIONAL))
        return
    given = parse({"given": Given}, arguments, program="attar push", positional=POSITIONAL)["given"]
    if not given.folder.is_dir():
        raise InputError(f"{given.folder} is not a folder.")

    from attar.verbs import open_artefact

    made = open_artefact(given.folder)
    print(made.to_hub(given.name, private=given.private, token=given.token, message=given.message))
