"""How tables are measured: settings that Python and the command share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from attar.core import tasks
from attar.core.settings import Range

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Settings of the classifiers that are trained on a table and tested on real rows."""

    downstream: Literal["hgb", "logistic"] = "hgb"
    """The classifier that is trained on a table: gradient-boosted trees (hgb) or logistic regression."""
    sees_sensitive: bool = True
    """Whether the downstream classifier is given the sensitive columns of the table."""
    decoded: Annotated[int, Range(1)] = 10
    """Tables of one generator that are measured. One alone is no measurement of it."""
    selected: Annotated[float, Range(0, 1)] | None = None
    """Selection rate at which tables and rivals are compared. Default: the share of the desirable outcome among the
    real training rows."""
    resamples: Annotated[int, Range(2)] = 200
    """Bootstrap samples of the test rows, each group as often as it is there, of which intervals are taken."""
    compared: Annotated[int, Range(50)] = 2000
    """Most rows of which distances are taken, for density, coverage and the closest record."""
    beside: Literal["auto", "run", "skip"] = "auto"
    """What a score is read with: as many real rows, as they are and by known means of mitigation. auto measures them
    for a single row, each if this takes less than ten minutes."""

    def remember(self, artefacts: Sequence[Any], found: "Evaluation") -> None:
        """Keep the scores on the cards, and a picture of the marginals beside the tables."""
        from attar.tables.pictures import keep

        keep(artefacts, found)
        super().remember(artefacts, found)

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Train on each table, and test on the real test rows. Tables that differ only in their seed make one row."""
        from attar.tables.score import measure

        return measure(artefacts, source, self, runtime)
