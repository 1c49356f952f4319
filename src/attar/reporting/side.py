"""Read the files beside an artefact with type checks; entries that cannot be shown are reported."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attar.core import store
from attar.core.cell import Cell, Measure
from attar.core.errors import InputError
from attar.core.jsonfiles import lines_of, read_json
from attar.core.jsonfiles import number as finite
from attar.core.scores import SCORES, scores_in

Points = tuple[tuple[int, float], ...]
Told = list[tuple[str, str]]
"""What is left out, and why: the file, and a sentence."""
LARGEST = 1e12
"""Beyond it a measured number says nothing, and sums of several could overflow."""
MOST_POINTS = 600
"""Of a curve: as many as a chart has pixels."""


def plain(file: Path, name: str, told: Told) -> Any:
    """What a JSON file holds; None where there is none, or nothing that can be read."""
    if not file.exists():
        return None
    try:
        return read_json(file)
    except InputError:
        told.append((name, "it is not valid JSON. It is not shown."))
        return None


def number(value: Any) -> float | None:
    """A finite number of a size that can be shown; None for anything else."""
    return finite(value, LARGEST)


def curves(file: Path, name: str, told: Told) -> dict[str, Points]:
    """Every logged metric by step. The last line of a run that was killed may be cut off; other odd lines are told."""
    if not file.exists():
        return {}
    try:
        lines = list(map(_logged, lines_of(file)))
    except InputError as error:
        told.append((name, f"{error} It is not shown."))
        return {}
    found: dict[str, dict[int, float]] = {}
    for step, metrics in filter(None, lines):
        for metric, value in metrics.items():
            if value is not None:
                found.setdefault(metric, {})[step] = value
    odd = sum(line is None or None in line[1].values() for line in lines)
    if odd:
        told.append((name, f"{odd:,} of {len(lines):,} lines do not hold numbers by step. Those are not shown."))
    return {metric: _thinned(sorted(points.items())) for metric, points in found.items() if len(points) > 1}


def _logged(values: dict[str, Any] | None) -> tuple[int, dict[str, float | None]] | None:
    """A step and its metrics, None for those that are no numbers; None for a line that is no such thing."""
    rest = dict(values or {})
    step = number(rest.pop("step", None))
    return None if step is None else (int(step), {metric: number(value) for metric, value in rest.items()})


def _thinned(points: list[tuple[int, float]]) -> Points:
    """At most so many of them, evenly, with the first and the last."""
    if len(points) <= MOST_POINTS:
        return tuple(points)
    places = (round(place * (len(points) - 1) / (MOST_POINTS - 1)) for place in range(MOST_POINTS))
    return tuple(points[place] for place in places)


def cost(file: Path, name: str, told: Told) -> tuple[float | None, int | None]:
    """Seconds that a run took, and the most memory in bytes."""
    facts = plain(file, name, told)
    if facts is None:
        return None, None
    took = store.cost_in(facts)
    given = facts if isinstance(facts, dict) else {"seconds": facts}
    if any(given.get(key) is not None and read is None for key, read in took.items()):
        told.append((name, "it does not give the cost of the run in numbers. It is not shown."))
    seconds, memory = took["seconds"], took["peak_memory"]
    return seconds, None if memory is None else int(memory)


def scores(folder: Path, name: str, told: Told) -> tuple[Cell, ...]:
    """Scores that lie beside an artefact, with all that they are read with; and those of a table's run."""
    entries = plain(folder / SCORES, name, told)
    given = entries.get("scores") if isinstance(entries, dict) else entries
    found = [cell for cell in scores_in(folder) if measured(cell)] if given is not None else []
    missing = len(given) - len(found) if isinstance(given, list) else int(entries is not None)
    if missing:
        told.append(
            (name, f"{missing:,} of its entries {'is not a score' if missing == 1 else 'are not scores'}. Not shown.")
        )
    return (*found, *_of_tables(folder / "run"))


def measured(cell: Cell) -> bool:
    """Whether all that is shown of it are numbers that can be shown."""
    shown = [cell.score, *(other.score for other in cell.read_with)]
    values = [*(score.value for score in shown), *(score.spread or 0.0 for score in shown)]
    values += [end for score in shown for end in score.interval or ()]
    values += [value for value in (cell.kept, cell.kept_above_chance) if value is not None]
    return all(number(value) is not None for value in values)


def _of_tables(folder: Path) -> Iterator[Cell]:
    """Scores that `attar bench` kept in a run: a list of accuracies, named by protocol, number and network."""
    for file in sorted(folder.glob("score-*-*.json")):
        values = plain(file, "", [])
        accuracies = [number(value) for value in values] if isinstance(values, list) else []
        known = [value for value in accuracies if value is not None]
        if known and len(known) == len(accuracies):
            _, slug, _, *architecture = file.stem.split("-")
            protocol = slug.replace("=", " ").replace("+", ", ").replace("~", "-")
            network = f"convnet ({'-'.join(architecture)})" if architecture else "convnet"
            measure = Measure.of([known])
            yield Cell(measure.score, measure.values, column=network, protocol=protocol)


def text(value: Any) -> str:
    """Any value of JSON as text."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return "?"


def whole(value: Any) -> int:
    """A whole number; 0 for anything else."""
    known = number(value)
    return 0 if known is None else int(known)
