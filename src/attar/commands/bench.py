"""`attar bench TABLE`: measured beside published."""

from attar.commands.shared import parse


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    from attar.bench.tables import command

    parse(command, "attar bench", arguments)
