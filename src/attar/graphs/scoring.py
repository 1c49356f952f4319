"""Measuring condensed sets of graphs: settings that Python and the command share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from attar.core import tasks
from attar.core.settings import Role, Words
from attar.graphs.protocols import Chosen

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.ByNetworks):
    """Settings of the networks that are trained on a condensed set."""

    networks: tuple[Annotated[Any, Words()], ...] = ("gcn",)
    """Kinds of networks, such as gcn, gin, gat, sage or gcn:pooling=sum,width=64."""
    protocol: Annotated[Chosen | Any, Role()] = field(default_factory=lambda: Chosen.by("field"))
    """Protocol of training, by name or with changes."""

    shares = True

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Test each set on the split that it was made with. Several rows are compared in pairs."""
        from attar.graphs.score import measure

        return measure(artefacts, source, self, runtime)
