"""How reduced mixtures are measured: by their distance from the original, which lies beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from attar.core import tasks

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Which distances are taken, and whether rivals are."""

    distances: tuple[str, ...] = ("angle", "nise", "ise")
    """Kinds of `attar.mixtures.KINDS`."""
    beside: Literal["run", "skip"] = "run"
    """What a score is read with: as many components by Runnalls' merging, and by k-means of samples."""

    @property
    def reads(self) -> bool:
        """The original lies in the artefact."""
        return False

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """A row for each method, a column for each distance."""
        from attar.mixtures.score import measure

        return measure(artefacts, self, runtime)
