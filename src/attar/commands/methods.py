"""`attar methods [KIND]`: what there is, by what one holds; `--json` for programs."""

import dataclasses
import json

from attar.core.errors import InputError
from attar.core.help import methods_table
from attar.core.kinds import kind_named, kinds
from attar.core.registry import methods

USAGE = "usage: attar methods [KIND] [--json]"


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if any(word in ("-h", "--help", "--help-all") for word in arguments):
        print(f"{USAGE}\n\nkinds:")
        print("\n".join(f"  {kind.name:<14}{kind.holds}" for kind in kinds().values()))
        return
    words = [word for word in arguments if word != "--json"]
    if len(words) > 1 or any(word.startswith("-") for word in words):
        raise InputError(f"`attar methods` takes a kind, and --json; not {' '.join(words)!r}.")
    kind = kind_named(words[0]).name if words else None
    if "--json" in arguments:
        print(json.dumps([dataclasses.asdict(entry) for entry in methods(kind).values()], ensure_ascii=False, indent=2))
    else:
        print(methods_table(kind))
