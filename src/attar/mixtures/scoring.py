"""How reduced mixtures are measured: by their distance from the original, which is part of the artefact."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from attar.core import tasks

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Settings of the measurement: which distances, and whether rivals are measured."""

    distances: tuple[str, ...] = ("angle", "nise", "ise")
    """Distances to measure, of the kinds in `attar.mixtures.KINDS`."""
    beside: Literal["run", "skip"] = "run"
    """What a score is read with: Runnalls' merging and k-means of samples, both with as many components."""

    @property
    def reads(self) -> bool:
        """Whether the measurement reads data: no, because the original is in the artefact."""
        return False

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """An evaluation with a row for each method and a column for each distance."""
        from attar.mixtures.score import measure

        return measure(artefacts, self, runtime)
