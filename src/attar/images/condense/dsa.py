"""DSA: gradient matching with real and synthetic images augmented alike.

The step from DC that pays most: the synthetic images learn to be trained on with augmentation, as everybody trains.
Slower than DM and, from about 50 images per class on, weaker.
Zhao and Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021, arXiv:2102.08259.
"""

from dataclasses import dataclass, replace
from typing import Self

from attar.core.runtime import Runtime
from attar.images.condense.dc import DC
from attar.images.condense.starts import Start
from attar.images.sources import ImageSource
from attar.images.views.augment import default_strategy

MIRRORED = ("fashion-mnist", "cifar10", "cifar100")
"""Data sets of the table whose images keep their class when mirrored."""


@dataclass(frozen=True, kw_only=True)
class DSA(DC):
    """Match gradients class by class under augmentation (Zhao and Bilen, ICML 2021, arXiv:2102.08259).

    DC's loss with A_ω applied to T_c and S_c: one operation and one set of parameters ω for a class and a match, the
    same for real and synthetic images. Networks train between matches with a draw of its own for every image.
    """

    start: Start = "real"
    augmentation: str | None = None
    """DSA operations joined by underscores, or none. Default: the field's six operations, five for digits."""

    name = "dsa"

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in what was left open, the augmentation included."""
        chosen = default_strategy(source.flips) if self.augmentation is None else self.augmentation
        return super(DSA, replace(self, augmentation=chosen)).resolve(source, runtime)

    @classmethod
    def published_augmentation(cls, data: str) -> str:
        """The augmentation of the released commands: no flips for digits."""
        return default_strategy(data in MIRRORED)
