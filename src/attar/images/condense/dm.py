"""DM: learn a few images whose mean embedding in random networks equals that of the whole class.

Try this method first. It has no inner loop, needs the memory of one step, and is strong from ten images per class on.
Zhao and Bilen, Dataset Condensation with Distribution Matching, WACV 2023, arXiv:2110.04181.
"""

from dataclasses import dataclass
from typing import Self

from jaxtyping import Float
from torch import Tensor

from attar.core.presets import published
from attar.images.condense.distribution import ClassMeans, DistributionMatching, Views, squared_distance


@dataclass(frozen=True, kw_only=True)
class DM(DistributionMatching):
    """Match mean embeddings of random networks (Zhao and Bilen, WACV 2023, arXiv:2110.04181).

    L(S) = E_θ Σ_c ‖ mean ψ_θ(A(real_c)) - mean ψ_θ(A(synthetic_c)) ‖². ψ_θ is the flattened last pooled map of a
    network with random parameters θ. A is one DSA draw per class.
    """

    name = "dm"

    def views(self, maps: list[Tensor], embedding: Tensor) -> Views:
        """The embedding alone."""
        return [embedding]

    def terms(self, real: ClassMeans, synthetic: ClassMeans) -> dict[str, Float[Tensor, ""]]:
        """Squared distance of class means, summed over classes and features."""
        return {"loss": squared_distance(real[0], synthetic[0])}

    @classmethod
    def paper(cls, data: str, *, ipc: int) -> Self:
        """The settings of one cell of the paper's tables (`attar condense dm --paper` lists them).

        Raises:
            InputError: The table does not have the cell.
        """
        return published(cls, data, ipc)
