"""Parts of a training that have a name, and often a paper, but are no methods: losses of labels, and heads.

They are read from data, the file `parts.json` beside each kind, so no part is imported before it is used, and a kind
can use the parts of another one without importing it.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from attar.core.errors import unknown
from attar.core.kinds import BUILT_IN, imported
from attar.core.registry import Paper, beside

FILE = "parts.json"


@dataclass(frozen=True)
class Part:
    """One part."""

    name: str
    what: str
    """The type of part: loss or head."""
    ref: str
    """Its class, as `package.module:Name`."""
    summary: str
    used: str
    """The command that uses it."""
    kind: str
    """The kind beside which it lies."""
    paper: Paper | None = None

    def load(self) -> Any:
        """Import the module of the part and return its class."""
        return imported(self.ref)


@cache
def parts() -> dict[str, Part]:
    """All parts by name."""
    return {part.name: part for kind in BUILT_IN for part in _of(kind)}


def part_named(name: str, what: str) -> Part:
    """The part of a name.

    Raises:
        InputError: There is no such part.
    """
    found = {part.name: part for part in parts().values() if part.what == what}
    if name not in found:
        raise unknown(what, name, found)
    return found[name]


def _of(kind: str) -> list[Part]:
    return [
        Part(
            name=name,
            what=facts["what"],
            ref=facts["class"],
            summary=facts["summary"],
            used=facts["used"],
            kind=kind,
            paper=Paper(**facts["paper"]) if facts.get("paper") else None,
        )
        for name, facts in beside(f"attar.{kind}", FILE).items()
    ]
