"""DM: learn a few images whose mean embedding in random networks equals that of the whole class.

Try this method first. It has no inner loop, needs the memory of one step, and is strong from ten images per class on.
Zhao and Bilen, Dataset Condensation with Distribution Matching, WACV 2023, arXiv:2110.04181.
"""

from dataclasses import dataclass
from typing import Self

from jaxtyping import Float
from torch import Tensor

from attar.core.errors import unknown
from attar.images.condense.distribution import ClassMeans, DistributionMatching, Views, squared_distance
from attar.images.networks.architecture import Architecture
from attar.images.views.augment import default_strategy


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
        """The settings of one cell of the paper's table.

        Raises:
            InputError: The paper does not have the data set.
        """
        known = ("mnist", "cifar10", "cifar100", "tiny-imagenet")
        if data not in known:
            raise unknown("data set of DM's table", data, known)
        return cls(
            ipc=ipc,
            steps=10_000 if data == "tiny-imagenet" else 20_000,  # the paper; the script runs one more
            lr=10.0 if data == "cifar10" and ipc >= 100 else 1.0,  # the repository's readme: 1 for CIFAR-100 up to 125
            real_batch=256,  # the script's default
            augmentation=default_strategy(flips=data != "mnist"),  # the script's strategy, without flips for digits
            architecture=Architecture(norm="instance", width=128),  # the script's default network
        )
