"""Reading what a diffusion model is trained on: images, or points in the plane."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from attar.core.settings import Range
from attar.images.reading import Pictures

if TYPE_CHECKING:
    from attar.samplers.sources import Source

TOYS = ("ring", "grid", "moons", "pinwheel", "checkerboard")
"""Distributions in the plane, by name."""


def looks_like(data: str) -> bool:
    """Whether a name is that of a distribution in the plane."""
    return data in TOYS


@dataclass(frozen=True, kw_only=True)
class Reading(Pictures):
    """Settings of reading samples: how pictures are read, and how many points are drawn."""

    points: Annotated[int, Range(20)] = 10_000
    """Number of points that are drawn from a distribution in the plane, a fifth of them for testing."""

    def load(self, data: Any) -> "Source":
        """The source that data stand for."""
        from attar.samplers.sources import Source
        from attar.samplers.toys import TOYS, drawn

        if isinstance(data, Source):
            return data
        if isinstance(data, str) and data in TOYS:
            return drawn(data, self.points, self.split_seed)
        from attar.images.sources import load

        settings = {name: value for name, value in self.to_json().items() if name != "points"}
        return Source.of_images(load(data, **settings))

    def describe(self, source: "Source") -> str:
        """The shape, the spread and the classes of the samples."""
        lines = [
            str(source),
            f"standard deviation {source.sigma_data:.4g} over all values, fingerprint {source.fingerprint}",
        ]
        counts = zip(source.classes, source.train.counts(len(source.classes)), strict=True)
        return "\n".join([*lines, *(f"  {name:<24} {count:,} training {source.things}" for name, count in counts)])
