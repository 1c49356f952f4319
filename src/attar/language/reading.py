"""How text is read: settings, and the description of a source."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from attar.core import tasks
from attar.core.settings import Range

if TYPE_CHECKING:
    from attar.language.sources import TextSource

SHOWN = 60
"""Number of characters of a row that are shown."""


ENDINGS = (".jsonl", ".json", ".txt", ".md")
COLUMNS = ("text", "messages", "prompt", "instruction")
"""Columns, one of which every row of text has."""
LOOKED_AT = 2**20
"""Bytes at the start of a file that are looked at to recognise it."""


def looks_like(data: str) -> bool:
    """Whether a file or a folder is of text."""
    path = Path(data)
    if path.is_file():
        return path.suffix in ENDINGS and _is_text(path)
    return path.is_dir() and any(_is_text(file) for file in path.iterdir() if file.suffix in (".jsonl", ".txt"))


def _is_text(path: Path) -> bool:
    """Whether a file of JSON begins with a row of text, or with something that is no row at all; any other is text."""
    if path.suffix not in (".jsonl", ".json"):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(LOOKED_AT).decode("utf-8-sig", errors="ignore").lstrip()
        row, _ = json.JSONDecoder().raw_decode(start.removeprefix("[").lstrip())
    except (OSError, ValueError, RecursionError):  # the reader says what is wrong with it
        return True
    return not isinstance(row, dict) or any(name in row for name in COLUMNS)


@dataclass(frozen=True, kw_only=True)
class Reading(tasks.Reading):
    """How text is read."""

    validation: Annotated[int, Range(1)] | None = None
    """Number of validation rows, taken from the start, if the data have no such part. Default: a tenth."""
    test: Annotated[int, Range(1)] | None = None
    """Number of test rows, taken from the end, if the data have no such part. Default: a tenth."""

    def load(self, data: Any) -> "TextSource":
        """The source that data stand for."""
        from attar.language.sources import load

        return load(data, validation=self.validation, test=self.test)

    def describe(self, source: "TextSource") -> str:
        """The parts, and the beginnings of the first training rows."""
        lines = [str(source), f"fingerprint {source.fingerprint}"]
        first = source.train.select(range(min(3, len(source.train))))
        return "\n".join([*lines, *(f"  {_beginning(row)}" for row in first)])


def _beginning(row: Any) -> str:
    if "messages" in row:
        text = " / ".join(turn["content"] for turn in row["messages"])
    else:
        text = row["text"] if "text" in row else f"{row['prompt']} / {row['response']}"
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
