"""Published settings: the cells of every method's tables, as data in the `presets.json` of each kind.

The file has one table for each method. `cells` has a row of settings for each data set and size: a list in the order of
`columns`, with an object of further settings at its end, or that object alone. A data set whose cells have no row of
their own lists its sizes. Below the rows lie `data`, the settings of a data set, and `all`, those of every cell.
`variants` lie on top and look the same. The whole file shares `shared`, which gives settings to the rows of that name
and to what says `like`, and `groups`, which names several rows at once. `apart` has the source and the note of cells
that differ in them, by name or pattern (`*-50`). `names` are other names of data sets.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, TypeVar

from attar.core.errors import InputError, named, unknown
from attar.core.kinds import kind_named
from attar.core.registry import beside

FILE = "presets.json"
SOURCES = ("paper", "released", "derived", "attar")
"""Where a cell is from: the paper, the authors' released files, the settings of other cells or papers, or attar."""
VARIANTS = ("paper", "released")

M = TypeVar("M")
Plain = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One cell of a published table."""

    data: str
    """The data set, or whatever else the rows are: a pair of networks, a family of students."""
    size: str
    """The size of the result, as in `cifar10-10`; empty for a table without sizes."""
    settings: Mapping[str, Any]
    """The settings as JSON has them."""
    source: str
    """One of `SOURCES`."""
    note: str = ""
    """What to know before it is used."""

    @property
    def name(self) -> str:
        """The cell in one word: `cifar10-10`."""
        return f"{self.data}-{self.size}" if self.size else self.data


@dataclass(frozen=True)
class Table:
    """The published cells of one method."""

    title: str
    """The method in messages."""
    size: str
    """The setting that is a cell's size: `ipc`; empty for a table without sizes."""
    cells: tuple[Cell, ...]
    note: str = ""
    """What to know about the table: where settings are from whose source is not that of their cell."""
    variants: tuple[str, ...] = ()
    """Variants, where paper and released files differ."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Other names of data sets."""

    def cell(self, data: str, size: Any = None) -> Cell:
        """One cell; upper and lower case are equal in its data set.

        Raises:
            InputError: The table does not have it. The nearest cells are named.
        """
        data, wanted = self.names.get(data, data), "" if size is None else str(size)
        there = [cell for cell in self.cells if cell.data.lower() == data.lower()]
        for cell in there:
            if cell.size == wanted:
                return cell
        if there:
            names = ", ".join(cell.name for cell in there)
            raise InputError(f"{self.title} has no cell {there[0].data}-{wanted}. Cells: {names}.")
        known = {cell.data.lower(): cell.data for cell in self.cells}
        near = difflib.get_close_matches(data.lower(), known, n=1, cutoff=0.5)
        guess = f"; did you mean {known[near[0]]!r}?" if near else "."
        raise InputError(f"{self.title} has no cell of {data!r}{guess} Its cells are of {', '.join(known.values())}.")


def published(method: type[M], data: str, size: Any = None, *, variant: str | None = None) -> M:
    """The settings of one published cell.

    Args:
        method: A class of settings with a `name` and a `kind`.
        data: The data set, or whatever else the rows of its table are.
        size: The size of the result, if the table has sizes.
        variant: `paper` or `released`, where they differ.

    Raises:
        InputError: The table does not have the cell or the variant.
    """
    table = table_of(method, variant)
    settings = dict(table.cell(data, size).settings)
    found: M = method.from_json({**settings, **({table.size: size} if table.size else {})})  # type: ignore[attr-defined]
    return found


def table_of(method: Any, variant: str | None = None) -> Table:
    """The table of a method.

    Raises:
        InputError: The method has no table, or not the variant.
    """
    if not has_table(method):
        raise InputError(f"{method.name} has no table of published settings.")
    return _table(kind_named(method.kind).home, method.name, variant)


def has_table(method: Any) -> bool:
    """Whether a method's published settings lie in a table."""
    return method.name in _file(kind_named(method.kind).home)["methods"]


def shared(home: str, name: str) -> Plain:
    """Settings that cells of a package's tables share.

    Raises:
        InputError: There are none of that name.
    """
    known = _file(home)["shared"]
    return _whole(named("shared settings", name, known), known)


def group(home: str, name: str) -> tuple[str, ...]:
    """Rows of a package's tables that are named together."""
    return tuple(_file(home)["groups"][name])


@cache
def _file(home: str) -> Plain:
    return {"methods": {}, "shared": {}, "groups": {}, "names": {}} | beside(home, FILE)


@cache
def _table(home: str, name: str, variant: str | None) -> Table:
    facts, file = _file(home)["methods"][name], _file(home)
    title, sized, variants = facts["title"], "size" in facts, facts.get("variants", {})
    if variant is not None and variant not in VARIANTS:
        raise unknown("variant", variant, VARIANTS)
    if variant is not None and variant not in variants:
        raise InputError(f"{title} has only one published variant. Do not give one.")
    layers = [facts, variants.get(variant or "paper", {})]
    rows = [_by_cell(layer.get("cells", {}), file["groups"], sized=sized) for layer in layers]
    apart = [(names.split(), about) for layer in layers for names, about in layer.get("apart", {}).items()]
    usual = layers[1].get("source", facts["source"])
    found = []
    for data, size in rows[1] or rows[0]:
        parts = [file["shared"].get(data, {})]
        for layer, own in zip(layers, rows, strict=True):
            parts += [layer.get("all", {}), layer.get("data", {}).get(data, {})]
            parts += _row(own.get((data, size), []), layer.get("columns", facts.get("columns", [])))
        settings: Plain = {}
        for part in parts:
            settings = _merged(settings, _whole(part, file["shared"]))
        about = {"source": usual}
        for names, differs in apart:
            if any(fnmatchcase(Cell(data, size, {}, usual).name, name) for name in names):
                about |= differs
        found.append(Cell(data, size, settings, **about))
    note = " ".join(layer["note"] for layer in layers if "note" in layer)
    return Table(title, facts.get("size", ""), tuple(found), note, tuple(variants), file["names"])


def _by_cell(cells: Mapping[str, Any], groups: Mapping[str, list[str]], *, sized: bool) -> dict[tuple[str, str], Any]:
    """The row of every cell, by data set and size."""
    found = {}
    for name, rows in cells.items():
        for data in groups.get(name, [name]):
            if not sized:
                found[data, ""] = rows
            elif isinstance(rows, list):
                found |= {(data, str(size)): [] for size in rows}
            else:
                found |= {(data, size): row for size, row in rows.items()}
    return found


def _row(row: Any, columns: list[str]) -> list[Plain]:
    """The settings of a row: those in columns, then further ones."""
    if isinstance(row, dict):
        return [row]
    further = row[len(columns) :]
    return [dict(zip(columns, row, strict=False)), *further]


def _whole(part: Mapping[str, Any], shared: Mapping[str, Any]) -> Plain:
    """Settings with those that they are `like`, and with dotted names as nested settings."""
    settings: Plain = {}
    for name, value in part.items():
        if name == "like":
            for like in [value] if isinstance(value, str) else value:
                settings = _merged(settings, _whole(shared[like], shared))
            continue
        *homes, last = name.split(".")
        nested: Any = {last: value}
        for home in reversed(homes):
            nested = {home: nested}
        settings = _merged(settings, nested)
    return settings


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Plain:
    """Two layers of settings as one; nested settings are merged too."""
    found = dict(below)
    for name, value in above.items():
        both = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = _merged(found[name], value) if both else value
    return found
