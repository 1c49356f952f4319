"""`attar methods`: what there is, one line each."""

from attar.core.registry import METHODS


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    list_methods(None)


def list_methods(verb: str | None) -> None:
    """Print the methods of one verb, or of all."""
    for entry in METHODS.values():
        if verb in (None, entry.verb):
            paper = f"{entry.paper.venue} {entry.paper.year}" if entry.paper else ""
            print(f"  {entry.name:<14} {entry.verb:<10} {entry.summary:<64} {paper}".rstrip())
