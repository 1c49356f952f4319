"""Write your own method: match the second moment of random networks' embeddings in each class, beside their mean."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

import attar
from attar.core.settings import Range
from attar.images.condense.distribution import ClassMeans, DistributionMatching, Views, squared_distance


@dataclass(frozen=True, kw_only=True)
class MomentMatching(DistributionMatching):
    """Match the first two moments of embeddings of random networks.

    L(S) = Σ_c ‖ mean ψ - mean ψ' ‖² + w ‖ mean ψ² - mean ψ'² ‖², squares taken feature by feature.
    """

    second_weight: Annotated[float, Range(0)] = 0.1
    """Weight w of the second moment; 0 leaves DM."""

    name = "moment-matching"

    def views(self, maps: list[Tensor], embedding: Tensor) -> Views:
        """The embedding, and its square."""
        return [embedding, embedding.square()] if self.second_weight else [embedding]

    def terms(self, real: ClassMeans, synthetic: ClassMeans) -> dict[str, Tensor]:
        """The loss and its parts."""
        first = squared_distance(real[0], synthetic[0])
        second = squared_distance(real[-1], synthetic[-1]) if self.second_weight else first.new_zeros(())
        return {"loss": first + self.second_weight * second, "first": first, "second": second}


if __name__ == "__main__":
    small = attar.condense("digits", MomentMatching(ipc=1, steps=50), out="runs/moments")
    protocol = attar.Protocol(name="short", epochs=60)
    print(attar.evaluate(small, "digits", repeats=2, protocol=protocol, ceiling="skip"))
