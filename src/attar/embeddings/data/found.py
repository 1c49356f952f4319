"""What a reader has found, before samples are split, chosen and normalised."""

from dataclasses import dataclass

from attar.embeddings.sources import Part
from attar.images.data.whiten import Transform


@dataclass(frozen=True)
class Found:
    """Samples as they were found."""

    name: str
    classes: tuple[str, ...]
    train: Part
    test: Part | None = None
    """The test samples, if they were given."""
    notes: tuple[str, ...] = ()
    flips: bool = True
    """Whether a mirrored image keeps its label."""
    transform: Transform | None = None
    """The normalisation of images, if it is known."""
