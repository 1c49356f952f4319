"""How students that write are measured: settings that Python and the command share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from attar.core import tasks
from attar.core.settings import Range, Words

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """How many answers a student gives, and what they are held against."""

    repeats: Annotated[int, Range(1)] = 5
    """Repeats of the measurement: rounds of answers, whose seeds are 10, 20, ... beyond --seed."""
    answers: Annotated[int, Range(0)] = 64
    """Test prompts that are answered by a student in each round; 0 for its cross-entropy alone."""
    teacher: Annotated[Any, Words()] = None
    """A trained network: a causal model's folder or name on the hub, for a student's excess error and what it keeps."""
    stem: Literal["none", "porter"] = "none"
    """How words are shortened before ROUGE-L compares them; porter is the field's, and needs nltk."""

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Cross-entropy on the test part, read with ROUGE-L, length, repetition and the excess error."""
        from attar.language.score import measure

        return measure(artefacts, source, self, runtime)
