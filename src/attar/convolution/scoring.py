"""How planned convolutions are measured: when the plan is made, on the machine that it is for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attar.core import tasks

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """The whole network was timed when the plan was made, so there is nothing to set."""

    @property
    def reads(self) -> bool:
        """What was measured lies in the artefact."""
        return False

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """How many times faster the whole network is, as it was confirmed on held-out images."""
        from attar.convolution.score import measure

        return measure(artefacts)
