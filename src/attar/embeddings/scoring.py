"""How encoders are measured: settings that Python and the command share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from attar.core import tasks
from attar.core.settings import Range

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation

Measured = Literal["recall", "map", "knn", "probe", "episodes"]


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Settings of the measurement of frozen encoders."""

    measures: tuple[Measured, ...] = ()
    """What is measured: kNN, a linear probe, mAP of several labels, few-shot episodes, recall of image-text pairs.
    Default: what fits the labels."""
    neighbours: Annotated[int, Range(1)] | None = None
    """Number k of nearest neighbours that vote in kNN. Default: 200, or 20 if there are fewer than 10,000 samples."""
    vote_temperature: Annotated[float, Range(1e-4)] = 0.1
    """Temperature of the votes in kNN: a neighbour of cosine s counts exp(s / T)."""
    label_threshold: Annotated[float, Range(0, 1)] | None = None
    """Probability from which a label counts as predicted. Default: chosen on held-out training samples; 0.5 for
    the classifier of a method that has held out none."""
    test_episodes: Annotated[int, Range(2)] = 600
    """Number of few-shot episodes."""
    ways: tuple[Annotated[int, Range(2)], ...] = ()
    """Classes of an episode, one number for each column of scores. Default: 5, or all if there are fewer."""
    shots: tuple[Annotated[int, Range(1)], ...] = (1, 5)
    """Known samples of each class of an episode, one number for each column of scores."""
    queries: Annotated[int, Range(1)] = 15
    """Samples of each class that are classified in an episode."""
    beside: Literal["auto", "run", "skip"] = "auto"
    """What a score is read with: raw features, a random encoder, ExtraTrees and, of several labels, BCE with the same
    views. auto measures them for a single row, each if this takes less than ten minutes."""

    def remember(self, artefacts: Sequence[Any], found: "Evaluation") -> None:
        """Keep the scores on the cards, and pictures of what was measured beside the artefacts."""
        from attar.embeddings.pictures import keep

        keep(artefacts, found)
        super().remember(artefacts, found)

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Measure frozen encoders on the test samples. Encoders that differ only in their seed make one row."""
        from attar.embeddings.score import measure

        return measure(artefacts, source, self, runtime)
