"""`attar push FOLDER user/name`: an artefact to the hub."""

from dataclasses import dataclass
from pathlib import Path

from attar.commands.making import HELP
from attar.core.errors import InputError
from attar.core.flags import parse
from attar.core.help import settings_help
from attar.core.settings import Settings

USAGE = "usage: attar push FOLDER user/name [--private] ..."


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """What is uploaded, without the run that made it. Condensed sets become data sets on the hub, all else models."""

    folder: Path
    """An artefact of any kind."""
    name: str
    """user/name; made if it is not there."""
    private: bool = False
    """Whether only its owner sees it."""
    token: str | None = None
    """Of the account; the one that `hf auth login` has left, unless given."""
    message: str | None = None
    """What the commit says."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or any(word in HELP for word in arguments):
        print(settings_help(USAGE, {"settings": Given}))
        return
    given = parse({"given": Given}, arguments, program="attar push", positional=("folder", "name"))["given"]

    from attar.verbs import open_artefact

    if not given.folder.is_dir():
        raise InputError(f"{given.folder} is no folder.")
    print(
        open_artefact(given.folder).to_hub(given.name, private=given.private, token=given.token, message=given.message)
    )
