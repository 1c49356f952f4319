"""Runnalls: merge the pair that adds least to an upper bound of the Kullback-Leibler divergence.

Choose it if speed matters, or if broad and faint components matter: distances of squared densities hardly depend on
those. In trackers it loses no more targets than methods with a smaller ISE.
Runnalls, Kullback-Leibler Approach to Gaussian Mixture Reduction, IEEE Transactions on Aerospace and Electronic
Systems 43(3), 2007.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from attar.core.seeds import Generators
from attar.mixtures.gaussians import Gaussians
from attar.mixtures.greedy import merge_cheapest
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.reduction import Reducer, Reduction, reduction_of


@dataclass(frozen=True, kw_only=True)
class Runnalls(Reducer):
    """Merge by a bound on the KL divergence (Runnalls, IEEE TAES 2007)."""

    name = "runnalls"

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Merge the cheapest pair until `n_components` are left."""
        return reduction_of(merge_cheapest(Gaussians.of(f), self.n_components, kl_bound))


def kl_bound(first: Gaussians, second: Gaussians, merge: Gaussians) -> Float[np.ndarray, " pair"]:
    """B(i,j) = ½ [(w_i + w_j) log|P_ij| - w_i log|S_i| - w_j log|S_j|] ≥ 0, in nats; it is 0 for equal Gaussians."""
    bound = merge.weights * merge.log_determinants
    bound -= first.weights * first.log_determinants + second.weights * second.log_determinants
    return np.maximum(0.5 * bound, 0.0)
