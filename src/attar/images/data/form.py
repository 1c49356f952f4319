"""Settings of finding and reading images, as all readers take them."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from attar.core.settings import Range, Settings

Background = Literal["white", "black", "none"]


@dataclass(frozen=True, kw_only=True)
class Form(Settings):
    """Settings of finding and reading images."""

    size: Annotated[int, Range(1)] | None = None
    """Side, in pixels, to which the central square of every picture is scaled."""
    memory: Annotated[float, Range(0)] = 4.0
    """Memory budget for decoded pixels, in GB."""
    image: str | None = None
    """Column of the images, if there are columns."""
    label: str | None = None
    """Column of the labels, if there are columns."""
    background: Background = "white"
    """Colour behind transparent pixels; none drops the transparency, so that hidden colours appear."""
    pixel_bits: Annotated[int, Range(8, 32)] | None = None
    """Number of bits of values in pictures with more than 8 bits."""
    skip_bad: bool = False
    """Whether pictures that cannot be read are left out."""

    def holds(self, images: int, shape: tuple[int, int, int]) -> bool:
        """Whether this number of images of this shape is within the budget."""
        return images * math.prod(shape) <= self.memory * 1e9
