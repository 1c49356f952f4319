"""How samplers are measured: settings that Python and the command share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from attar.core import tasks
from attar.core.errors import InputError
from attar.core.settings import Range, Role
from attar.samplers.tasks import Teacher

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Settings of the comparison of new samples with real ones."""

    samples: Annotated[int, Range(20)] | None = None
    """Number of new samples that are compared. Default: as many as there are training samples, 10,000 at most."""
    neighbours: Annotated[int, Range(1, 100)] = 3
    """Number k of nearest neighbours, by which precision, recall, density and coverage are defined."""
    repeats: Annotated[int, Range(1)] = 1
    """Repeats of the measurement, each with other noise."""
    teacher: Annotated[Teacher, Role()] = field(default_factory=Teacher)
    """The teacher that stands beside a student. Default: its own, if its folder or the cache has it."""
    beside: Literal["auto", "run", "skip"] = "auto"
    """What a score is read with: two halves of the real samples, the teacher in full and at the student's number of
    calls, and a student of pairs. auto measures them for a single row, each if this takes less than ten minutes."""

    def remember(self, artefacts: Sequence[Any], found: "Evaluation") -> None:
        """Keep the scores on the cards, and pictures beside the samplers."""
        from attar.samplers.pictures import keep

        keep(artefacts, found)
        super().remember(artefacts, found)

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Draw samples, and compare them with the training and the test samples."""
        from attar.samplers.prompts import Prompts
        from attar.samplers.score import measure

        if isinstance(source, Prompts):
            raise InputError(
                f"{source.name} holds prompts, and samplers that are told by text are not measured here. Look at "
                "preview.png, or compare their images (sampler.sample) with a measure of your own."
            )
        return measure(artefacts, source, self, runtime)
