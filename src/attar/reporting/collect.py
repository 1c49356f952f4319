"""Find everything below a folder: artefacts with their runs, tables of methods, and files that cannot be shown."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.core.artefact import ARTEFACT, Origin
from attar.core.cell import Cell
from attar.core.errors import InputError
from attar.core.kinds import Kind, kind_in, kinds
from attar.core.provenance import Call
from attar.core.scores import SCORES
from attar.reporting import side
from attar.reporting.rows import Run, Section, column_of, sections_of
from attar.reporting.side import Told
from attar.reporting.tables import Table, read_table

TABLE = "table.json"
LONGEST = 300
"""Letters of a reason that are shown."""


@dataclass(frozen=True)
class Found:
    """Everything below a folder."""

    folder: str
    sections: tuple[Section, ...]
    tables: tuple[Table, ...]
    skipped: tuple[tuple[str, str], ...]
    """What could not be shown, and why."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """All artefacts, as they are numbered on the page."""
        return tuple(run for section in self.sections for run in section.runs)


def collect(folder: Path, *, images: int = 10, page: Path | None = None) -> Found:
    """Read everything below a folder.

    Args:
        folder: Where runs lie.
        images: Things of a class that are pictured at most.
        page: Where the page will lie, from where commands find the artefacts; in the folder unless given.

    Raises:
        InputError: There is no such folder, or nothing of attar's in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.")
    runs: list[tuple[Kind, Run]] = []
    tables: list[Table] = []
    told: Told = []
    for path in _candidates(folder):
        name = str(path.relative_to(folder))
        try:
            if path.name == TABLE:
                tables.append(read_table(path, name))
            else:
                runs.append(_run(path.parent, str(path.parent.relative_to(folder)), images, page or folder, told))
        except InputError as error:
            told.append((name, str(error)))
        except Exception as error:  # whatever a file of somebody's, or another package's kind, comes up with
            told.append((name, f"it cannot be shown: {type(error).__name__}: {error}"[:LONGEST]))
    told += _unfinished(folder)
    if not runs and not tables and not told:
        raise InputError(f"{folder} holds nothing to report: no artefact, and no table of attar bench.")
    order = list(kinds())
    runs.sort(key=lambda found: order.index(found[0].name))
    return Found(str(folder), sections_of(runs), tuple(tables), tuple(told))


def _candidates(folder: Path) -> Iterator[Path]:
    """Artefacts and tables, but not the snapshots within runs."""
    for path in sorted([*folder.rglob(ARTEFACT), *folder.rglob(TABLE)]):
        if "snapshots" not in path.relative_to(folder).parts:
            yield path


def _unfinished(folder: Path) -> Iterator[tuple[str, str]]:
    for settings in sorted(folder.rglob("run/settings.json")):
        place = settings.parents[1]
        if not (place / ARTEFACT).exists() and not any(place.glob("*.safetensors")):
            yield str(place.relative_to(folder)), "its run is unfinished. Run the same command again to continue it."


def _run(folder: Path, name: str, images: int, page: Path, told: Told) -> tuple[Kind, Run]:
    """An artefact with what lies beside it.

    Raises:
        InputError: It cannot be read.
    """
    kind = kind_in(folder)
    if kind is None:
        raise InputError(f"{folder / ARTEFACT} is damaged: it is not an artefact's description.")
    made = kind.load(folder)
    shown, origin = made.shown(images), _origin(made)
    place = Path(os.path.relpath(folder.resolve(), page.resolve()))
    seconds, memory = side.cost(folder / "run" / "cost.json", f"{name}/run/cost.json", told)
    run = Run(
        name=name,
        place=place,
        origin=origin,
        shown=shown,
        scores=_scores(shown.scores, side.scores(folder, f"{name}/{SCORES}", told)),
        commands=_commands(origin, str(place)),
        seconds=seconds,
        memory=memory,
        curves=side.curves(folder / "run" / "metrics.jsonl", f"{name}/run/metrics.jsonl", told),
    )
    return kind, run


def _scores(at_once: tuple[Cell, ...], beside: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """What lies beside an artefact, and of what was measured at once the rest."""
    known = {column_of(cell) for cell in beside}
    return (*beside, *(cell for cell in at_once if side.measured(cell) and column_of(cell) not in known))


def _origin(made: Any) -> Origin:
    """Where an artefact came from, in values of the right types whatever its file says."""
    found = made.origin
    if found is None:
        settings, machine = (getattr(made, name, {}) for name in ("settings", "machine"))
        return Origin("", "", str(made.title), _names(settings), 0, _names(machine))
    call = found.call if isinstance(getattr(found, "call", None), dict) else None
    source, fingerprint, method = (side.text(value) for value in (found.source, found.fingerprint, found.method))
    settings, machine = _names(found.settings), _names(found.machine)
    return Origin(source, fingerprint, method, settings, side.whole(found.seed), machine, call=call)


def _names(values: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dict(values), default=str)) if hasattr(values, "keys") else {}


def _commands(origin: Origin, place: str) -> tuple[str, ...]:
    """The command that was given, and the one that takes all settings from the artefact; none of older ones."""
    if origin.call is None:
        return ()
    try:
        call = Call(**origin.call)
        command = call.command(origin.method, origin.seed)
        known = "" if origin.method.startswith("import:") else call.again(place)
    except (InputError, AttributeError, KeyError, TypeError, ValueError):
        return ()
    return tuple(filter(None, (command, known))) if command else ()
