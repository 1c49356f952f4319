"""How students are measured: on the test images, without settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attar.core import tasks

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """The measurement trains nothing, so it has no settings."""

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Accuracy with F1, the geometry of the features, and the bits of subclasses."""
        from attar.classifiers.score import measure

        return measure(artefacts, source, runtime)
