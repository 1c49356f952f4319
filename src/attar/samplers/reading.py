"""Reading what a diffusion model is trained on: images, or points in the plane."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from attar.core.settings import Range
from attar.images.reading import Pictures

if TYPE_CHECKING:
    from attar.samplers.prompts import Prompts
    from attar.samplers.sources import Source

OWN = ("points", "prompts", "prompt_column")
"""Settings of this kind alone."""
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
    prompts: str | None = None
    """File of prompts, one on each line or a column of JSON lines or parquet, for teachers that are told by text. The
    pictures that its column file_name names lie in --data. A file that --data names is read so too."""
    prompt_column: str | None = None
    """Column of the prompts. Default: text, prompt or caption."""

    def load(self, data: Any) -> "Source | Prompts":
        """The source that data stand for: samples, or prompts."""
        from attar.samplers.prompts import Prompts, looks_like_prompts, read_prompts

        if isinstance(data, Prompts):
            return data
        if self.prompts is not None:
            folder = data if isinstance(data, (str, Path)) and Path(data).expanduser().is_dir() else None
            return read_prompts(self.prompts, self.prompt_column, folder)
        if looks_like_prompts(data):
            return read_prompts(data, self.prompt_column)
        from attar.samplers.sources import Source
        from attar.samplers.toys import TOYS, drawn

        if isinstance(data, Source):
            return data
        if isinstance(data, str) and data in TOYS:
            return drawn(data, self.points, self.split_seed)
        from attar.images.sources import load

        settings = {name: value for name, value in self.to_json().items() if name not in OWN}
        return Source.of_images(load(data, **settings, fewest=1))

    def describe(self, source: "Source | Prompts") -> str:
        """The shape, the spread and the classes of the samples, or the first prompts."""
        from attar.samplers.prompts import Prompts

        if isinstance(source, Prompts):
            first = [f"  {text}" for text in source.texts[:3]]
            return "\n".join([str(source), f"fingerprint {source.fingerprint}", *first])
        lines = [
            str(source),
            f"standard deviation {source.sigma_data:.4g} over all values, fingerprint {source.fingerprint}",
        ]
        counts = zip(source.classes, source.train.counts(len(source.classes)), strict=True)
        return "\n".join([*lines, *(f"  {name:<24} {count:,} training {source.things}" for name, count in counts)])
