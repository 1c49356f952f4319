"""`attar cite METHOD`: the paper, as BibTeX."""

from attar.core.errors import InputError
from attar.core.registry import find


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print("usage: attar cite METHOD")
        return
    entry = find(arguments[0])
    if entry.paper is None:
        raise InputError(f"{entry.name} has no paper of its own; cite the table you compare with.")
    print(entry.paper.bibtex(entry.name))
