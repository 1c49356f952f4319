"""`attar push FOLDER user/name`: upload an artefact to the hub."""

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
    """Folder of an artefact of any kind."""
    name: str
    """Name on the hub, user/name. The repository is created if it does not exist."""
    private: bool = False
    """Whether only the owner can see the repository."""
    license: str | None = None
    """Licence that the card names, as the hub calls it: cc-by-4.0. Default: the one in the card, if any."""
    token: str | None = None
    """Token of the account. Default: the token that `hf auth login` has stored."""
    message: str | None = None
    """Message of the commit. Default: what the artefact is, in a few words."""


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
    how = {name: getattr(given, name) for name in ("private", "license", "token", "message")}
    print(made.to_hub(given.name, **how))
