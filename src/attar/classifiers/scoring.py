"""How students are measured: on the test images, with nothing to choose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attar.core import tasks

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Students train nothing, so there is nothing to set."""

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Accuracy with F1, the geometry of their features, and the bits of subclasses."""
        from attar.classifiers.score import measure

        return measure(artefacts, source, runtime)
