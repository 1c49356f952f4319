"""`attar bench TABLE`: measure a table beside published figures. Only the given table is imported."""

from attar.commands.making import MACHINE
from attar.core.errors import InputError, unknown
from attar.core.flags import is_flag, parse
from attar.core.help import EVERYTHING, HELP, method_help
from attar.core.launcher import check_shared
from attar.core.machine import Engine
from attar.core.registry import Entry, entries_in

USAGE = "usage: attar bench TABLE ..."
ABOUT = """Make artefacts by several methods, score them under one protocol, and print
them beside published figures."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    tables = {entry.name: entry for entry in entries_in("attar.bench", "tables.json")}
    if not arguments or arguments[0] in HELP:
        print(_help(tables))
        return
    name, *words = arguments
    if is_flag(name):
        raise InputError(f"TABLE must be given before {name}: {', '.join(tables)}. For help: attar bench --help")
    if name not in tables:
        raise unknown("table", name, tables)
    table = tables[name]
    if any(word in HELP for word in words):
        needed = [f"{flag.flag} {flag.setting.upper()}" for flag in table.flags if flag.default == "must be given"]
        usage = " ".join([*needed, "..."])
        print(method_help(table, {MACHINE: Engine}, everything=EVERYTHING in words, usage=usage))
        return
    read = parse({"table": table.load(), "engine": Engine()}, words, program=f"attar bench {name}")

    from attar.core.store import check_output

    check_shared(read["table"], f"attar bench {name}")
    check_output(read["table"].record)
    read["table"].measure(read["engine"])


def _help(tables: dict[str, Entry]) -> str:
    lines = [f"  {name:<12}{entry.summary}" for name, entry in tables.items()]
    return "\n".join([USAGE, "", ABOUT, "", "tables:", *lines, "", "Settings of a table: attar bench TABLE --help"])
