"""Samples as a reader leaves them, before they are split, chosen and normalised."""

from dataclasses import dataclass

from attar.embeddings.sources import Part
from attar.images.data.whiten import Transform


@dataclass(frozen=True)
class RawSamples:
    """Samples as they were read."""

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
