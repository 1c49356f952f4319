"""Group artefacts into rows of repeats, name each row, and find what its artefacts cost."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attar.core import store
from attar.core.settings import flat

Plain = dict[str, Any]


def rows_of(
    artefacts: Sequence[Any], also: Callable[[Any], Mapping[str, Any]] = lambda one: {}
) -> list[tuple[str, list[Any]]]:
    """Artefacts that differ in their seed alone together, in the order of their seeds, with a label for each row.

    The label is the method, and of its settings those in which rows of the same method differ.

    Args:
        artefacts: Of one kind.
        also: What tells artefacts apart besides method and settings, by name.
    """
    groups: dict[str, list[Any]] = {}
    for one in artefacts:
        method, settings, _ = made(one)
        key = json.dumps([method, settings, dict(also(one))], sort_keys=True, default=str)
        groups.setdefault(key, []).append(one)
    firsts = [members[0] for members in groups.values()]
    labels = _labels([(made(one)[0], dict(flat(made(one)[1]))) for one in firsts])
    if len(set(labels)) < len(labels):
        labels = _labels(list(zip(labels, [dict(also(one)) for one in firsts], strict=True)))
    rows = [sorted(members, key=lambda one: made(one)[2]) for members in groups.values()]
    return list(zip(labels, rows, strict=True))


def _labels(facts: Sequence[tuple[str, Plain]]) -> list[str]:
    """Each name with those of its facts in which things of the same name differ."""
    labels = []
    for name, mine in facts:
        same = [other for one, other in facts if one == name]
        differing = [fact for fact, value in mine.items() if any(other.get(fact) != value for other in same)]
        labels.append(" ".join([name, *(f"{fact} {mine[fact]}" for fact in differing)]))
    return labels


def made(one: Any) -> tuple[str, Plain, int]:
    """Method, settings and seed of an artefact; one that was made without a run has no seed."""
    origin = one.origin
    if origin is None:
        return str(one.title), dict(one.settings), 0
    return origin.method, origin.settings, origin.seed


def cost_of(artefacts: Sequence[Any]) -> tuple[float | None, int | None]:
    """Seconds of making one, on average, and the most memory, where their runs are at hand.

    The seconds include what was prepared for it: networks that were trained beside it, now or earlier.
    """
    most = max(_known(artefacts, "peak_memory"), default=None)
    return _mean(artefacts, "seconds"), None if most is None else int(most)


def prepared_of(artefacts: Sequence[Any]) -> float | None:
    """Those of the seconds in which something was prepared, on average; None where that is not known."""
    return _mean(artefacts, "prepared")


def _mean(artefacts: Sequence[Any], name: str) -> float | None:
    known = _known(artefacts, name)
    return statistics.fmean(known) if known else None


def _known(artefacts: Sequence[Any], name: str) -> list[float]:
    costs = [store.read_cost(one.folder / "run" / "cost.json") for one in artefacts if one.folder is not None]
    return [value for cost in costs if (value := cost[name])]
