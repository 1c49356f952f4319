"""West: take the component of least weight, or of least weight for its size, and merge it with its nearest neighbour.

Cheap and simple; only the neighbours of one component are looked at in each step.
West, Approximating Posterior Distributions by Mixtures, Journal of the Royal Statistical Society B 55(2), 1993; the
enhanced order is that of Chen, Chang and Smith, Constraint Optimized Weight Adaptation for Gaussian Mixture Reduction,
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
    """Merge the lightest component with its neighbour (West, JRSS B 1993)."""

    near: Near = "ise"
    """How neighbours are found: by ISE between the two Gaussians with unit weights, or by KL(lightest ‖ other)."""
    enhanced: bool = True
    """Whether the lightest is that of least w / tr S, so that broad components go first."""

    name = "west"

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Merge until enough are gone."""
        return reduction_of(merge_lightest(Gaussians.of(f), self.n_components, near=self.near, enhanced=self.enhanced))


def merge_lightest(
    f: Gaussians,
    n_components: int,
    *,
    near: Near = "ise",
    enhanced: bool = True,
    adapt: Callable[[Gaussians, int, int], np.ndarray] | None = None,
) -> Merged:
    """Merge one component after another into its nearest.

    Args:
        f: The original components.
        n_components: How many to leave.
        near: See `West`.
        enhanced: See `West`.
        adapt: Gives new weights to what is left after each merge, whose places it is told: where the merged component
            now is, and where the one that is gone was.
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
    """KL(one ‖ other) in nats, or the ISE between one Gaussian and others, as a share of the largest <φ,φ>."""
    if near == "kl":
        return kl_table(one, others)[0]
    own, other, both = log_self(one), log_self(others), log_table(one, others)[0]
    scale = max(own.max(), other.max())
    return np.maximum(np.exp(own - scale) + np.exp(other - scale) - 2 * np.exp(both - scale), 0.0)
