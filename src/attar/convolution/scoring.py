"""How planned convolutions are measured: they were timed when the plan was made, on the machine that it is for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attar.core import tasks

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Settings of the measurement. There are none, because the whole network was timed when the plan was made."""

    @property
    def reads(self) -> bool:
        """Whether the measurement reads data: no, because the times are in the artefact."""
        return False

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """The time ratio of each whole network, as confirmed on held-out images."""
        from attar.convolution.score import measure

        return measure(artefacts)
