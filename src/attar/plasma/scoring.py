"""How emulators are measured: settings that Python and the command share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from attar.core import tasks

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Settings of the comparison of an emulator with its teacher."""

    beside: Literal["auto", "run", "skip"] = "auto"
    """What a score is read with: the mean profile, ridge regression and the nearest column, which learn from the same
    columns. auto measures them for a single row."""

    def remember(self, artefacts: Sequence[Any], found: "Evaluation") -> None:
        """Keep the scores on the cards, and pictures beside the emulators."""
        from attar.plasma.emulator_pictures import keep

        keep(artefacts, found)
        super().remember(artefacts, found)

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Compare line profiles with those of the teacher."""
        from attar.plasma.score import measure

        return measure(artefacts, source, self, runtime)
