"""COWA: West's enhanced merging. After each merge it solves for the best weights of the remaining components.

It is a little better than West and costs a little more. It selects merges in the same way.
Chen, Chang and Smith, Constraint Optimized Weight Adaptation for Gaussian Mixture Reduction, SPIE 2010.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from attar.core.seeds import Generators
from attar.mixtures.gaussians import Gaussians, log_self, log_table
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.quadratic import simplex_minimum
from attar.mixtures.reduction import Reducer, Reduction, reduction_of
from attar.mixtures.west import Near, merge_lightest


@dataclass(frozen=True, kw_only=True)
class COWA(Reducer):
    """West's merging with optimal weights after each merge (Chen, Chang and Smith, SPIE 2010).

    The weights solve min_w wᵀ H1 w - 2 vᵀ H2 w with Σ w = 1 and w ≥ 0. Without w ≥ 0 weights could become negative.
    """

    near: Near = "ise"
    """Distance that defines the nearest neighbour: ISE between the unit-weight Gaussians, or KL(lightest ‖ other)."""

    name = "cowa"

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Merge and adapt weights until `n_components` are left."""
        original = Gaussians.of(f)
        adapt = Adaptation(original)
        return reduction_of(merge_lightest(original, self.n_components, near=self.near, adapt=adapt))


class Adaptation:
    """H1 and H2 v, updated by one row at each merge, and the best weights, solved from those before the merge.

    Args:
        f: The original components.
    """

    def __init__(self, f: Gaussians) -> None:
        self.f, self.scale = f, float(log_self(f).max())
        self.gram = self._overlaps(f, f)
        self.target = self.gram @ f.weights

    def __call__(self, parts: Gaussians, merged: int, gone: int) -> Float[np.ndarray, " component"]:
        """The best weights of the remaining components after a merge.

        Args:
            parts: The remaining components.
            merged: Place of the merged component.
            gone: Former place of the component that was merged into it.
        """
        left = np.delete(np.arange(len(self.target)), gone)
        self.gram, self.target = self.gram[left[:, None], left], self.target[left]
        new = parts.take([merged])
        self.gram[merged] = self.gram[:, merged] = self._overlaps(new, parts)[0]
        self.target[merged] = self._overlaps(new, self.f)[0] @ self.f.weights
        return simplex_minimum(self.gram, self.target, parts.weights)

    def _overlaps(self, first: Gaussians, second: Gaussians) -> Float[np.ndarray, "first second"]:
        overlaps: np.ndarray = np.exp(log_table(first, second) - self.scale)
        return overlaps
