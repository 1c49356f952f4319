"""Salmond: merge the pair whose means are closest, on the scale of the whole mixture.

This is the oldest greedy rule. It uses means and weights but not the components' covariances. It serves as a reference.
Salmond, Mixture Reduction Algorithms for Target Tracking in Clutter, SPIE Signal and Data Processing of Small
Targets, 1990.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from attar.core.seeds import Generators
from attar.mixtures.gaussians import Gaussians
from attar.mixtures.greedy import PairCost, merge_cheapest
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.reduction import Reducer, Reduction, reduction_of


@dataclass(frozen=True, kw_only=True)
class Salmond(Reducer):
    """Merge the pair that moves the least spread into a component (Salmond, SPIE 1990)."""

    name = "salmond"

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Merge the cheapest pair until `n_components` are left. P_0 is always the covariance of f."""
        cost = moved_spread(f.covariance().numpy())
        return reduction_of(merge_cheapest(Gaussians.of(f), self.n_components, cost))


def moved_spread(overall: Float[np.ndarray, "dimension dimension"]) -> PairCost:
    """The cost tr(P_0⁻¹ ΔW) with ΔW = w_i w_j / (w_i + w_j) (μ_i - μ_j)(μ_i - μ_j)ᵀ.

    Args:
        overall: P_0, the covariance of the whole mixture.
    """
    precision = np.linalg.inv(overall)

    def cost(first: Gaussians, second: Gaussians, merge: Gaussians) -> Float[np.ndarray, " pair"]:
        away = first.means - second.means
        weight = np.divide(
            first.weights * second.weights, merge.weights, out=np.zeros(len(merge)), where=merge.weights > 0
        )
        return weight * np.einsum("dp,de,ep->p", away, precision, away)

    return cost
