"""How condensed sets of graphs are measured: settings that Python and the command share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from attar.core import tasks
from attar.core.settings import Range, Words

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Which networks are trained on a condensed set, and how."""

    networks: tuple[Annotated[Any, Words()], ...] = ("gcn",)
    """Kinds of networks: gcn, gin, gat, sage, gcn:pooling=sum,width=64."""
    repeats: Annotated[int, Range(1)] = 5
    """Repeats of the measurement: networks of each kind on each set."""
    protocol: Annotated[Any, Words()] = "field"
    """How they are trained: field (1,000 epochs), or quick (100)."""
    ceiling: Literal["auto", "run", "skip"] = "auto"
    """The score of all the data: auto trains it when that takes under ten minutes."""

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Each set is tested on the split that it was made with; several rows are compared in pairs."""
        from attar.graphs.score import measure

        return measure(artefacts, source, self, runtime)
