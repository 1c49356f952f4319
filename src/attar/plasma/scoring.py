"""How emulators are measured: settings that Python and the command share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attar.core import tasks
from attar.core.errors import InputError

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Settings of the comparison of an emulator with its teacher."""

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Compare line profiles with those of the teacher."""
        raise InputError("only emulators are measured again. Give the folder of one.")
