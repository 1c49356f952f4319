"""DSA: gradient matching with the same augmentation of real and synthetic images.

It is the most useful extension of DC: the synthetic images are learned for training with augmentation, which is the
usual training. It is slower than DM, and weaker from about 50 images per class on.
Zhao and Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021, arXiv:2102.08259.
"""

from dataclasses import dataclass, replace
from typing import Self

from attar.core.runtime import Runtime
from attar.images.condense.dc import DC
from attar.images.condense.starts import Start
from attar.images.sources import ImageSource
from attar.images.views.augment import default_strategy


@dataclass(frozen=True, kw_only=True)
class DSA(DC):
    """Match gradients class by class under augmentation (Zhao and Bilen, ICML 2021, arXiv:2102.08259).

    The loss is DC's with an augmentation A_ω of T_c and S_c: one operation with one set of parameters ω for each class
    and match, the same for real and synthetic images. Between matches networks train with a separate draw for
    each image.
    """

    start: Start = "real"
    augmentation: str | None = None
    """DSA operations joined by underscores, or none. Default: the field's six operations, five for digits."""

    name = "dsa"

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the settings without a value, including the augmentation."""
        chosen = default_strategy(source.flips) if self.augmentation is None else self.augmentation
        return super(DSA, replace(self, augmentation=chosen)).resolve(source, runtime)
