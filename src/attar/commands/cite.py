"""`attar cite METHOD ...`: print the papers of methods, and of losses and other parts, as BibTeX."""

from attar.core.errors import InputError
from attar.core.flags import is_flag
from attar.core.help import HELP
from attar.core.parts import parts
from attar.core.registry import find

USAGE = """usage: attar cite METHOD ...

Print the papers of one or several methods, or of losses and other parts of a
training, as BibTeX.

All methods: attar methods"""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or any(word in HELP for word in arguments):
        print(USAGE)
        return
    for word in arguments:
        if is_flag(word):
            raise InputError(f"unknown flag {word}; `attar cite` takes names of methods. For help: attar cite --help")
    entries = [parts().get(name.replace("_", "-")) or find(name) for name in arguments]
    for entry in entries:
        if entry.paper is None:
            raise InputError(f"{entry.name} has no paper of its own. Cite the table you compare with.")
    print("\n\n".join(entry.paper.bibtex(entry.name) for entry in entries if entry.paper))
