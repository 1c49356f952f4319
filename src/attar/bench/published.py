"""Read the published figures, which lie as data in `published.json`.

They were measured with the papers' own iterations, augmentation and choice of checkpoint. A difference of one or two
points from a run here therefore says little. A difference between two methods that were run here says more.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from attar.core.errors import unknown

PATH = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Published:
    """One printed cell."""

    value: float
    """Test accuracy in per cent."""
    spread: float | None
    """Its spread over networks, where one was printed."""
    paper: str
    """arXiv number of the paper whose table it is from."""
    note: str = ""
    """What to know before trusting it."""
    alternatives: tuple["Published", ...] = ()
    """What other papers print for the same cell, where they differ."""

    def __str__(self) -> str:
        text = f"{self.value:.1f}" if self.spread is None else f"{self.value:.1f} ± {self.spread:.1f}"
        return f"{text} (not verified)" if "not verified" in self.note else text


def published(data: str, ipc: int, network: str = "convnet") -> dict[str, Published]:
    """What the papers print for one data set and number of images per class, by method.

    A method's own paper goes before others that repeat it. `"whole"` is training on all the data.

    Args:
        data: Name of the data set: `"cifar10"`, `"tiny-imagenet"`, `"imagenette"`, ...
        ipc: Images per class; one that no table has gives an empty dictionary.
        network: What was trained on the condensed set, as in `attar evaluate --networks`.

    Raises:
        InputError: A data set that is in none of the tables.
    """
    if data not in datasets():
        raise unknown("published data set", data, datasets())
    found: dict[str, list[Published]] = {}
    for table in _file()["tables"]:
        if (table["data"], table["network"]) == (data, network):
            for method, cell in _cells(table, str(ipc)).items():
                found.setdefault(method, []).append(cell)
    cells = {method: _preferred(method, printed) for method, printed in found.items()}
    return {} if set(cells) == {"whole"} else cells


def datasets() -> list[str]:
    """The data sets of the tables."""
    return sorted({table["data"] for table in _file()["tables"]})


def downstream(use: str, data: str) -> dict[str, float]:
    """What papers print for a downstream use of condensed sets (`"continual"`, `"architecture_search"`), by method.

    Where several tables have a method, the first: for continual learning that after five steps.
    """
    found: dict[str, float] = {}
    for table in _file()[use]:
        if table["data"] == data:
            found = {**table["methods"], **found}
    return found


@cache
def _file() -> Any:
    return json.loads(PATH.read_text(encoding="utf-8"))


def _cells(table: Any, ipc: str) -> dict[str, Published]:
    """One table's cells for one number of images per class."""
    cells = {method: row[ipc] for method, row in table["methods"].items() if ipc in row}
    if "whole" in table:
        cells["whole"] = table["whole"]
    paper = table["paper"]
    return {
        method: Published(value, spread, paper, _note(table, method, ipc)) for method, (value, spread) in cells.items()
    }


def _note(table: Any, method: str, ipc: str) -> str:
    notes = table.get("notes", {})
    note = notes.get(method, notes.get("*", ""))
    return str(note.get(ipc, "") if isinstance(note, dict) else note)


def _preferred(method: str, cells: list[Published]) -> Published:
    """The cell of the method's own paper, else the first that prints a spread; with those that differ from it."""
    own = _file()["own_paper"].get(method)
    first, *rest = sorted(cells, key=lambda cell: (cell.paper != own, cell.spread is None))
    others = tuple(cell for cell in rest if cell.value != first.value)
    return Published(first.value, first.spread, first.paper, first.note, others)
