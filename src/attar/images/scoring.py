"""Measuring condensed sets of images: settings that Python and the command share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from attar.core import tasks
from attar.core.settings import Role, Words
from attar.images.protocols import Chosen

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.ByNetworks):
    """Settings of the networks that are trained on a condensed set."""

    networks: tuple[Annotated[Any, Words()], ...] = ("convnet",)
    """Kinds of networks, such as convnet, resnet18, convnet:norm=batch,width=64, transformers:FOLDER."""
    protocol: Annotated[Chosen | Any, Role()] = field(default_factory=lambda: Chosen.by("field"))
    """Protocol of training, by name or with changes."""
    beside: Literal["auto", "run", "skip"] = "auto"
    """What a score is read with: scores without augmentation, with hard labels, and of random images. auto measures
    them for a single row, if this takes less than ten minutes."""

    shares = True

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Score the sets. Sets that differ only in their seed are repeats of one row. Rows are compared in pairs."""
        from attar.images.score import measure

        return measure(artefacts, source, self, runtime)
