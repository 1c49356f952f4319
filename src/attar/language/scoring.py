"""How students are measured: settings that Python and the command share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from attar.core import tasks
from attar.core.errors import InputError
from attar.core.settings import Range, Words

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Number of answers of each student, and the references for them."""

    repeats: Annotated[int, Range(1)] = 5
    """Repeats of the measurement: rounds of answers, with seeds 10, 20, ... added to --seed."""
    answers: Annotated[int, Range(0)] = 64
    """Test prompts that are answered by each student in each round. 0 measures only the cross-entropy."""
    teacher: Annotated[Any, Words()] = None
    """A trained network: folder or hub name of a causal model, the teacher for the excess error and what a student
    keeps."""
    stem: Literal["none", "porter"] = "none"
    """Stemmer for the words that ROUGE-L compares. porter is the field's and needs nltk."""

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Cross-entropy on the test part, read with ROUGE-L, length, repetition and the excess error."""
        from attar.language.artefact import DistilledLanguageModel
        from attar.language.score import measure

        if not all(isinstance(one, DistilledLanguageModel) for one in artefacts):
            raise InputError("stored answers are no model, and are not measured. To see them: attar report FOLDER")
        return measure(artefacts, source, self, runtime)
