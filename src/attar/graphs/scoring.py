"""How condensed sets of graphs are measured: settings that Python and the command share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from attar.core import tasks
from attar.core.settings import Words

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.ByNetworks):
    """Which networks are trained on a condensed set, and how."""

    networks: tuple[Annotated[Any, Words()], ...] = ("gcn",)
    """Kinds of networks: gcn, gin, gat, sage, gcn:pooling=sum,width=64."""
    protocol: Annotated[Any, Words()] = "field"
    """How they are trained: field (1,000 epochs), or quick (100)."""

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Each set is tested on the split that it was made with; several rows are compared in pairs."""
        from attar.graphs.score import measure

        return measure(artefacts, source, self, runtime)
