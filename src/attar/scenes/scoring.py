"""How fields and autoencoders are measured: settings that Python and the command share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from attar.core import tasks

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Settings of the comparison of rendered views with held-out ones."""

    beside: Literal["auto", "run", "skip"] = "auto"
    """What a score is read with: the autoencoder alone, and a plain latent field, which has no refinement layer. auto
    trains the latter for a single row, if this takes less than ten minutes."""

    def remember(self, artefacts: Sequence[Any], found: "Evaluation") -> None:
        """Keep the scores on the cards, and pictures of held-out views beside the artefacts."""
        from attar.scenes.pictures import keep

        keep(artefacts, found)
        super().remember(artefacts, found)

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Render the held-out views, and compare them with their pictures and their latents."""
        from attar.scenes.judging import edits, is_edit
        from attar.scenes.score import measure

        if artefacts and all(is_edit(one) for one in artefacts):
            return edits(artefacts)
        return measure(artefacts, source, self, runtime)
