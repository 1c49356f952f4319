"""Reading what simulations have left: runs and columns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.core import tasks
from attar.core.errors import InputError, near_path

THREADS = "threads"


def called(source: Any) -> str:
    """What a source is, for the middle of a sentence."""
    title = getattr(source, "title", None)
    if not isinstance(title, str):
        return f"of type {type(source).__name__}"
    return title[:1].lower() + title[1:]


def looks_like(data: str) -> bool:
    """Whether a name is that of the random threads, or a folder holds an artefact of this kind."""
    from attar.core.kinds import kind_in

    if data == THREADS:
        return True
    kind = kind_in(Path(data)) if (Path(data) / "artefact.json").is_file() else None
    return kind is not None and kind.name == "plasma"


@dataclass(frozen=True, kw_only=True)
class Reading(tasks.Reading):
    """Settings of reading runs and columns."""

    def load(self, data: Any) -> Any:
        """The run or the columns that data stand for, or random threads.

        Raises:
            InputError: Nothing of the sort.
        """
        from attar.plasma.artefact import StoredPlasma
        from attar.plasma.threads import RandomThreads

        if not isinstance(data, (str, Path)):
            return data
        path = Path(data).expanduser()
        if str(data) == THREADS and not (path / "artefact.json").is_file():  # a folder of this name is what was made
            return RandomThreads()
        if path.is_dir():
            return StoredPlasma.load(path)
        near = near_path(str(data))
        meant = f"; did you mean {near!r}?" if near else "."
        raise InputError(
            f"there is no folder {str(data)!r}{meant} Give threads (random columns), or the folder of a run or of "
            "columns. To make a run: attar simulate kelvin-helmholtz --out FOLDER"
        )

    def describe(self, source: Any) -> str:
        """What it holds, as `attar data` prints it."""
        return str(getattr(source, "described", source))
