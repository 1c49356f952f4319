"""Reading what simulations have left: runs and columns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.core import tasks
from attar.core.errors import InputError

THREADS = "threads"


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
        """The run or the columns that data stand for.

        Raises:
            InputError: Nothing of the sort.
        """
        from attar.plasma.artefact import StoredPlasma

        if not isinstance(data, (str, Path)):
            return data
        path = Path(data).expanduser()
        if path.is_dir():
            return StoredPlasma.load(path)
        raise InputError(f"{data} is no folder of a run. Make one: attar simulate kelvin-helmholtz --out {data}")

    def describe(self, source: Any) -> str:
        """What it holds, as `attar data` prints it."""
        return str(getattr(source, "described", source))
