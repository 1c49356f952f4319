"""The file `scores.json` beside an artefact: its scores, each with everything to compare it with.

    {"schema": 2, "scores": [{"column": ..., "protocol": ..., "value": ..., "beside": [...], ...}]}

The older form, a list of `{"network": ..., "protocol": ..., "score": {...}}`, is still read. Its spreads were standard
deviations of the population; they are made sample deviations here.
"""

import math
from pathlib import Path
from typing import Any

from attar.core import store
from attar.core.cell import Cell
from attar.core.errors import InputError
from attar.core.score import Score

SCORES = "scores.json"
SCHEMA = 2


def scores_in(folder: Path) -> list[Cell]:
    """The scores beside an artefact; none if there are none, and without those that cannot be read."""
    try:
        facts = store.read_json(folder / SCORES)
    except InputError:
        return []
    entries = facts.get("scores") if isinstance(facts, dict) else facts
    found = []
    for entry in entries if isinstance(entries, list) else ():
        try:
            found.append(_from_older(entry) if "network" in entry else Cell.from_json(entry))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            continue
    return found


def keep_scores(folder: Path, cells: list[Cell]) -> None:
    """Keep scores beside an artefact, in place of older ones of the same columns and protocols."""
    replaced = {(cell.column, cell.protocol) for cell in cells}
    older = [cell for cell in scores_in(folder) if (cell.column, cell.protocol) not in replaced]
    entries = [cell.to_json() for cell in (*older, *cells)]
    store.write_json(folder / SCORES, {"schema": SCHEMA, "scores": entries})


def _from_older(row: dict[str, Any]) -> Cell:
    """A score of the older form. Where there is a `last` epoch, `score` was of a chosen one, and `kept` of the last."""
    facts = {"column": row["network"], "protocol": row["protocol"], "chance": row.get("chance")}
    main, values = ("last", "last_values") if "last" in row else ("score", "values")
    facts |= _measure(row[main], row.get(values))
    if "last" in row:
        facts["further"] = {"at the epoch with the best validation score": _measure(row["score"], row.get("values"))}
    facts["full"] = _measure(row["full"], None) if row.get("full") else None
    facts["kept"] = row.get("kept") if row.get("kept") is None or math.isfinite(row["kept"]) else None
    facts["beside"] = [
        {**other, "score": _measure(other["score"], None), "count": other.get("images")}
        for other in row.get("beside") or ()
    ]
    return Cell.from_json(facts)


def _measure(score: dict[str, Any], values: Any) -> dict[str, Any]:
    """A score of the older form, with the sample deviation in place of that of the population."""
    if values:
        found = Score.of([value for row in values for value in row])
        return {**score, "spread": found.spread, "n": found.n, "values": values}
    n, spread = score.get("n", 1), score.get("spread")
    known = None if spread is None or n == 1 else spread * math.sqrt(n / (n - 1))
    return {**score, "spread": known}
