"""Reading samples for encoders: the settings, and the description of a source."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attar.core import tasks

if TYPE_CHECKING:
    from attar.embeddings.sources import Source


def looks_like(data: str) -> bool:
    """Whether a name or file is that of samples with several labels."""
    return data == "mosaics"


@dataclass(frozen=True, kw_only=True)
class Reading(tasks.Reading):
    """Settings of reading samples."""

    split_seed: int = 0
    """Seed of the split of a set that came without one: a fifth is for testing."""

    def load(self, data: Any) -> "Source":
        """Load the source that `data` names."""
        from attar.embeddings.sources import Source
        from attar.images.sources import load

        return data if isinstance(data, Source) else Source.of_images(load(data, split_seed=self.split_seed))
