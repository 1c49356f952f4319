"""Tables written by `attar bench`: read them, and show them as HTML beside published figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.bench.cells import NAMES, Cell, foot, over
from attar.bench.published import datasets, published
from attar.core import store
from attar.core.errors import InputError
from attar.reporting.html import cell, safe, scrolled, tabled
from attar.reporting.side import number

HEADS = ("per class", "method", "accuracy %", "over random", "kept %", "bytes", "seconds", "published %")


@dataclass(frozen=True)
class Table:
    """A table of methods."""

    name: str
    data: str
    protocol: str
    full: float | None
    cells: tuple[Cell, ...]


def read_table(file: Path, name: str) -> Table:
    """Read a table by type.

    Raises:
        InputError: It is none.
    """
    facts = store.read_json(file)
    try:
        data, protocol = facts["data"], facts["protocol"]["name"]
        full = _number(facts["full"]["value"]) if facts.get("full") else None
        cells = tuple(map(_cell, facts["cells"]))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise InputError(f"{file} is not a table of attar bench.") from None
    return Table(name, _text(data), _text(protocol), full, cells)


def _cell(facts: Any) -> Cell:
    values = tuple(tuple(map(_number, row)) for row in facts["values"])
    if not values or not all(values):
        raise ValueError("no values")
    sizes = (int(_number(facts["ipc"])), values, int(_number(facts["bytes"])), _number(facts["seconds"]))
    random = tuple(tuple(map(_number, row)) for row in facts.get("random") or ())
    if not all(random):
        raise ValueError("no values")
    return Cell(_text(facts["label"]), *sizes, prepared=_number(facts.get("prepared") or 0.0), random=random)


def _number(value: Any) -> float:
    known = number(value)
    if known is None:
        raise ValueError(value)
    return known


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def table(found: Table) -> str:
    """A table as a section of the page."""
    rows = [[cell(words, numeric=name != "method") for name, words in _row(one, found)] for one in found.cells]
    full = f" All the data: {found.full:.1f} %." if found.full else ""
    how = f"{safe(found.data)}, {safe(found.protocol)} protocol.{full}"
    drawn = scrolled(tabled([(name, name != "method") for name in HEADS], rows), found.name)
    notes = " ".join(("Differences have 95 % intervals.", *list(foot(found.cells))[1:]))
    return f"""<section><h2>{safe(found.name)}</h2>
<p>{how} ± is the standard deviation over sets and networks. {safe(notes)}</p>
{drawn}</section>"""


def _row(one: Cell, found: Table) -> list[tuple[str, str]]:
    here = [other for other in found.cells if other.ipc == one.ipc]
    random = next((other for other in here if other.label == "random"), None)
    known: dict[str, Any] = published(found.data, one.ipc) if found.data in datasets() else {}
    values = (
        str(one.ipc),
        one.label,
        one.score.number,
        str(over(one, random)) if random and random is not one else "",
        f"{100 * one.score.value / found.full:.1f}" if found.full else "",
        f"{one.bytes:,}",
        one.time,
        str(known.get(NAMES.get(one.label, one.label.lower()), "")),
    )
    return list(zip(HEADS, values, strict=True))
