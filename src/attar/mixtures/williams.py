"""Williams and Maybeck: merge by the integral squared error of the pair or of the whole mixture, then minimise it.

The local cost is the best cheap cost if the ISE matters. The global cost with the optimisation is the method as
published, and the strongest rival of OGGMR.
Williams and Maybeck, Cost-Function-Based Gaussian Mixture Reduction for Target Tracking, FUSION 2003.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float

from attar.core.seeds import Generators
from attar.core.settings import Range
from attar.mixtures.gaussians import Gaussians, log_self
from attar.mixtures.greedy import PairCost, merge_cheapest, merge_error, merge_globally
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.optimise import optimised
from attar.mixtures.reduction import Reducer, Reduction, reduction_of


@dataclass(frozen=True, kw_only=True)
class Williams(Reducer):
    """Merge by integral squared error, then minimise it (Williams and Maybeck, FUSION 2003)."""

    merge_cost: Literal["local", "global"] = "global"
    """Cost of a merge: the ISE between the pair and its merge (local), or between original and result (global)."""
    optimise: bool = True
    """Whether to optimise all parameters for the ISE at the end."""
    iterations: Annotated[int, Range(1)] = 2000
    """Largest number of iterations of the optimiser."""

    moved = MappingProxyType({**Reducer.moved, "cost": "merge_cost"})
    name = "williams"

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Merge, then minimise the ISE by a quasi-Newton method."""
        parts = Gaussians.of(f)
        if self.merge_cost == "local":
            found = reduction_of(merge_cheapest(parts, self.n_components, local_ise(parts)))
        else:
            found = reduction_of(merge_globally(parts, self.n_components, "ise"))
        return optimised(f, found, "ise", iterations=self.iterations) if self.optimise else found


def local_ise(f: Gaussians) -> PairCost:
    """The cost ∫ (w_i φ_i + w_j φ_j - W φ_m)² dx, divided by the largest <φ,φ> of f to keep it within range."""
    scale = float(log_self(f).max())

    def cost(first: Gaussians, second: Gaussians, merge: Gaussians) -> Float[np.ndarray, " pair"]:
        return merge_error(first, second, merge, scale)

    return cost
