"""How encoders are measured (placeholder)."""
from dataclasses import dataclass

from attar.core import tasks


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Settings."""
    def measure(self, artefacts, source, runtime):
        """Nothing yet."""
        raise NotImplementedError
