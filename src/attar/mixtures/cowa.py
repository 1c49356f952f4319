"""COWA: West's enhanced merging, with the weights of everything left solved for anew after each merge.

A little better than West at a little more cost; the merges themselves are the same kind.
Chen, Chang and Smith, Constraint Optimized Weight Adaptation for Gaussian Mixture Reduction, SPIE 2010.
"""

from dataclasses import dataclass

from attar.core.seeds import Generators
from attar.mixtures.gaussians import Gaussians
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.quadratic import solve_weights
from attar.mixtures.reduction import Reducer, Reduction, reduction_of
from attar.mixtures.west import Near, merge_lightest


@dataclass(frozen=True, kw_only=True)
class COWA(Reducer):
    """West's merging with optimal weights after each merge (Chen, Chang and Smith, SPIE 2010).

    min_w wᵀ H1 w - 2 vᵀ H2 w with Σ w = 1 and w ≥ 0; without the last, weights can turn negative.
    """

    near: Near = "ise"
    """How neighbours are found: by ISE between the two Gaussians with unit weights, or by KL."""

    name = "cowa"

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Merge and adapt until enough are gone."""
        original = Gaussians.of(f)
        merging = merge_lightest(
            original,
            self.n_components,
            near=self.near,
            adapt=lambda parts: solve_weights(original, parts, "ise"),
        )
        return reduction_of(merging)
