"""The distance of a reduced mixture from its original, beside the results of cheap methods with as many components."""

import time
from collections.abc import Sequence

from attar.core.cell import Beside, Cell
from attar.core.errors import InputError
from attar.core.evaluation import Evaluation, Row
from attar.core.rows import rows_of
from attar.core.runtime import Runtime
from attar.core.score import Score
from attar.mixtures.artefact import ReducedMixture
from attar.mixtures.distances import UNITS, check_kind
from attar.mixtures.reduction import Reduction
from attar.mixtures.runnalls import Runnalls
from attar.mixtures.scoring import Scoring
from attar.mixtures.starts import sampled_start


def measure(mixtures: Sequence[ReducedMixture], how: Scoring, runtime: Runtime) -> Evaluation:
    """Measure the distances of reduced mixtures from their originals, and those of rivals.

    Args:
        mixtures: Reduced mixtures. Mixtures that differ only in their seed share a row.
        how: Settings: which distances, and whether rivals are measured.
        runtime: Its seed draws the samples of k-means.

    Raises:
        InputError: There is no mixture or no distance, or a distance is unknown.
    """
    if not mixtures or not how.distances:
        raise InputError("there is nothing to measure. Give at least one reduced mixture and one distance.")
    for kind in how.distances:
        check_kind(kind)
    start, rows = time.perf_counter(), []
    for label, members in rows_of(mixtures, lambda one: {"of": one.origin.source, "data": one.origin.fingerprint}):
        first = members[0]
        rivals = _rivals(first, runtime) if how.beside == "run" else {}
        sizes = {"count": first.mixture.n_components, "full_count": first.original.n_components}
        sizes |= {"bytes": first.bytes, "full_bytes": 8 * first.original.parameters}
        rows.append(Row.of(label, members, [_cell(kind, members, rivals) for kind in how.distances], **sizes))
    return Evaluation(tuple(rows), "components", "mixtures", seconds=round(time.perf_counter() - start, 3))


def _rivals(one: ReducedMixture, runtime: Runtime) -> dict[str, Reduction]:
    """The original reduced to as many components by cheap methods, except the method that made this mixture."""
    f, count = one.original.plain(), one.mixture.n_components
    rivals = {"k-means of samples": sampled_start(f, count, "k-means", runtime.generator("k-means"))}
    if one.origin.method != Runnalls.name:
        rivals["runnalls"] = Runnalls(n_components=count).reduce(f, seed=runtime.seed)
    return rivals


def _cell(kind: str, mixtures: Sequence[ReducedMixture], rivals: dict[str, Reduction]) -> Cell:
    unit = UNITS.get(kind, "")
    beside = [
        Beside(
            f"{name}, as many components",
            Score(rival.distance(mixtures[0].original, kind), unit, "lower"),
            rival.mixture.n_components,
            8 * rival.mixture.parameters,
        )
        for name, rival in rivals.items()
    ]
    return Cell.of([[one.distance(kind)] for one in mixtures], unit, "lower", column=kind, beside=tuple(beside))
