"""DC: learn a few images whose training gradient points in the same direction as the gradient of the whole class.

Data set condensation began with this method, and it is the one to compare with. Prefer DSA, which adds augmentation,
and DCC if classes look alike.
Zhao, Mopuri and Bilen, Dataset Condensation with Gradient Matching, ICLR 2021, arXiv:2006.05929.
"""

from dataclasses import dataclass
from typing import Self

from attar.core.presets import published
from attar.images.condense.gradient import GradientMatching
from attar.images.condense.starts import Start


@dataclass(frozen=True, kw_only=True)
class DC(GradientMatching):
    """Match gradients class by class (Zhao, Mopuri and Bilen, ICLR 2021, arXiv:2006.05929).

    L(S) = E_θ Σ_c D(∇_θ CE(f_θ(S_c), c), ∇_θ CE(f_θ(T_c), c)). θ are the parameters of a network during its training on
    S. D is the sum of 1 - cosine over the rows of its weights. The paper starts from noise and does not augment.
    """

    start: Start = "noise"

    name = "dc"

    @classmethod
    def paper(cls, data: str, *, ipc: int) -> Self:
        """The settings of one cell of the paper's tables (`attar condense METHOD --paper` lists them).

        Raises:
            InputError: The table does not have the cell.
        """
        return published(cls, data, ipc)
