"""`attar data DATA`: what a data set holds, as attar reads it, whatever kind it is of."""

from dataclasses import dataclass

from attar.commands.making import HELP
from attar.commands.presets import taken
from attar.core.errors import InputError
from attar.core.flags import parse
from attar.core.help import settings_help
from attar.core.kinds import Kind, built_in, kinds
from attar.core.settings import Settings

USAGE = "usage: attar data DATA [--kind KIND] ..."


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """What is read."""

    data: str = "digits"
    """What there is to read."""
    kind: str = ""
    """What it holds, where that cannot be told: a name of `attar methods`."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    wanted = _kind_named_in(arguments)
    if any(word in HELP for word in arguments):
        readings = {f"how {kind.holds} are read": kind.read() for kind in _readers()}
        print(settings_help(USAGE, {"settings": Given, **readings}))
        return
    name = next((word for word in arguments if not word.startswith("--")), Given().data)
    kind = wanted or kind_of_data(name)
    parts = {"given": Given(), "reading": kind.read()()}
    read = parse(parts, arguments, program="attar data", positional=("data",))
    print(read["reading"].describe(read["reading"].load(read["given"].data)))


def kind_of_data(data: str) -> Kind:
    """The kind that reads some data: that whose bundled data are named, or the first that knows the form.

    Args:
        data: A name, a file or a folder.
    """
    for kind in kinds().values():
        if data == kind.bundled or kind.recognises(data):
            return kind
    return next(iter(built_in().values()))


def _kind_named_in(words: list[str]) -> Kind | None:
    (wanted,), _ = taken(("--kind",), words)
    if wanted is not None and wanted not in kinds():
        raise InputError(f"unknown kind {wanted!r}. Known: {', '.join(kinds())}.")
    return None if wanted is None else kinds()[wanted]


def _readers() -> list[Kind]:
    """One kind of all that read alike."""
    return list({kind.reading: kind for kind in reversed(kinds().values())}.values())[::-1]
