"""West: take the component of least weight, or of least weight for its size, and merge it with its nearest neighbour.

It is cheap and simple: each step evaluates the neighbours of one component only.
West, Approximating Posterior Distributions by Mixtures, Journal of the Royal Statistical Society B 55(2), 1993. The
enhanced order is from Chen, Chang and Smith, Constraint Optimized Weight Adaptation for Gaussian Mixture Reduction,
SPIE 2010.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from attar.core.seeds import Generators
from attar.mixtures.gaussians import Gaussians, kl_table, log_self, log_table, merged
from attar.mixtures.greedy import Merged
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.reduction import Reducer, Reduction, reduction_of

Near = Literal["ise", "kl"]


@dataclass(frozen=True, kw_only=True)
class West(Reducer):
    """Merge the lightest component with its nearest neighbour (West, JRSS B 1993)."""

    near: Near = "ise"
    """Distance that defines the nearest neighbour: ISE between the unit-weight Gaussians, or KL(lightest ‖ other)."""
    enhanced: bool = True
    """Whether the lightest component is that of least w / tr S, not of least w. Broad components then go first."""

    name = "west"

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Merge until `n_components` are left."""
        return reduction_of(merge_lightest(Gaussians.of(f), self.n_components, near=self.near, enhanced=self.enhanced))


def merge_lightest(
    f: Gaussians,
    n_components: int,
    *,
    near: Near = "ise",
    enhanced: bool = True,
    adapt: Callable[[Gaussians, int, int], np.ndarray] | None = None,
) -> Merged:
    """Merge the lightest component with its nearest neighbour, again and again.

    Args:
        f: The original components.
        n_components: Number of components to keep.
        near: See `West`.
        enhanced: See `West`.
        adapt: A function that gives new weights to the remaining components after each merge. Its arguments are the
            components, the place of the merged component and the former place of the component that was removed.
    """
    parts, labels = f, np.arange(len(f))
    trace, evaluations = [], 0
    while len(parts) > n_components:
        size = np.trace(parts.covariances) if enhanced else 1.0
        lightest = int((parts.weights / size).argmin())
        gaps = apart(parts.take([lightest]), parts, near)
        gaps[lightest] = np.inf
        nearest = int(gaps.argmin())
        trace.append(float(gaps[nearest]))
        evaluations += len(parts) - 1
        i, j = sorted((lightest, nearest))
        merge = merged(parts.take([i]), parts.take([j]))
        parts = parts.take(np.delete(np.arange(len(parts)), j))
        parts.put(i, merge)
        labels = np.where(labels == j, i, labels - (labels > j))
        if adapt is not None:
            parts = Gaussians(adapt(parts, i, j), parts.means, parts.covariances, parts.log_determinants)
    return Merged(parts, labels, trace, evaluations)


def apart(one: Gaussians, others: Gaussians, near: Near) -> Float[np.ndarray, " other"]:
    """The KL(one ‖ other) in nats, or the ISE between one Gaussian and the others, divided by the largest <φ,φ>."""
    if near == "kl":
        return kl_table(one, others)[0]
    own, other, both = log_self(one), log_self(others), log_table(one, others)[0]
    scale = max(own.max(), other.max())
    return np.maximum(np.exp(own - scale) + np.exp(other - scale) - 2 * np.exp(both - scale), 0.0)
