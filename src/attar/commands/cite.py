"""`attar cite METHOD ...`: the papers, as BibTeX."""

from attar.core.errors import InputError
from attar.core.registry import find


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or any(word in ("-h", "--help", "--help-all") for word in arguments):
        print("usage: attar cite METHOD ...")
        return
    entries = [find(name) for name in arguments]
    for entry in entries:
        if entry.paper is None:
            raise InputError(f"{entry.name} has no paper of its own; cite the table you compare with.")
    print("\n\n".join(entry.paper.bibtex(entry.name) for entry in entries if entry.paper))
