"""CDA: SRe2L with views that change from whole images to small crops, so that outlines are learned before textures.

Prefer it to SRe2L if SRe2L crops its views. At 32 pixels and below, views of whole images were at least as good.
Compare it, like SRe2L, with real images that have the same labels.
Yin and Shen, Dataset Distillation via Curriculum Data Synthesis in Large Data Era, TMLR 2024, arXiv:2311.18838.
Settings are those of the released scripts. Their default milestone is zero, which is SRe2L.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from attar.core.presets import published
from attar.core.settings import Range
from attar.core.training import half_cosine
from attar.images.condense.sre2l import SRe2L

Curriculum = Literal["step", "linear", "cosine", "constant", "reverse"]


@dataclass(frozen=True, kw_only=True)
class CDA(SRe2L):
    """Recover images like SRe2L, from views that start as whole images and become crops (TMLR 2024, arXiv:2311.18838).

    Only the lower bound of a crop's area changes, from one to `smallest_crop` over the first `milestone` of a block's
    steps. Areas are uniform between the bound and one. The step size falls too, so outlines are learned in large steps
    and details in small steps. Random numbers are the same for every curriculum.
    """

    curriculum: Curriculum = "cosine"
    """Curriculum of the smallest crop area, which falls from one to smallest_crop. step: at once at the milestone.
    linear: in a line. cosine: by half a cosine. constant: smallest_crop from the start, as in SRe2L. reverse: it rises
    by half a cosine (the paper's counter-example; its exact form there is not known)."""
    milestone: Annotated[float, Range(0, 1)] = 1.0
    """Share of a block's steps over which the smallest crop area changes."""
    crop: Literal["auto", "on", "off"] = "on"

    name = "cda"

    def smallest_at(self, iteration: int) -> float:
        """The smallest share of the area in a crop at an iteration, counted from zero in every block."""
        assert self.block_steps is not None, "resolve the settings first"
        span = self.milestone * self.block_steps
        way = min(1.0, iteration / span) if span else 1.0
        return smallest_crop(self.curriculum, way, least=self.smallest_crop)

    @classmethod
    def paper(cls, data: str, *, ipc: int) -> Self:
        """The settings of one cell of the paper's tables, with a ResNet-18 as teacher.

        Raises:
            InputError: The table does not have the cell.
        """
        return published(cls, data, ipc)


def smallest_crop(curriculum: Curriculum, way: float, *, least: float) -> float:
    """The smallest share of the area in a crop at a given part of the way to the milestone (1: at or after it)."""
    if curriculum == "constant":
        return least
    falling = {
        "step": 1.0 if way < 1 else 0.0,
        "linear": 1 - way,
        "cosine": half_cosine(way),
        "reverse": 1 - half_cosine(way),
    }
    return least + (1 - least) * falling[curriculum]
