"""OGGMR: merge greedily by the distance of the whole reduced mixture to the original, then optimise all parameters.

Choose it if the shape of the density matters. Its greedy stage is better than merging by costs of pairs alone, and the
optimiser about halves the remaining distance. In one or two dimensions the result is as good as minimising the ISE or
NISE from the same start. In more dimensions the heights of peaks may be wrong, because the angle compares directions
only. Then `criterion="nise"` is better, because it compares heights too.
Sajedi, Lawryshyn and Plataniotis, A New Probabilistic Distance Metric With Application in Gaussian Mixture Reduction,
ICASSP 2023, arXiv:2306.07309. It is reconstructed from the abstract; we could not check the paper's exact steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from attar.core.seeds import Generators
from attar.core.settings import Range
from attar.mixtures.gaussians import Gaussians
from attar.mixtures.greedy import merge_cheapest, merge_globally
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.optimise import best_of, family_of, without_empty
from attar.mixtures.quadratic import best_weights
from attar.mixtures.reduction import Reducer, Reduction, reduction_of
from attar.mixtures.runnalls import kl_bound
from attar.mixtures.starts import sampled_start
from attar.mixtures.williams import local_ise

Criterion = Literal["angle", "chord", "l2", "sqrt_nise", "nise", "ise", "cauchy_schwarz", "tanimoto"]

ALL_PAIRS = 60
"""Largest number of components for which every pair is evaluated by default."""


@dataclass(frozen=True, kw_only=True)
class OGGMR(Reducer):
    """Greedy merging by distance to the original, then optimisation (Sajedi et al., ICASSP 2023, arXiv:2306.07309)."""

    criterion: Criterion = "angle"
    """Distance to the original that both stages minimise. The last four are not metrics."""
    optimise: bool = True
    """Whether to optimise all parameters after merging."""
    weights_qp: bool = False
    """Whether to solve for the best weights alone after merging; this is exact and fast."""
    pair_filter: Annotated[int, Range(0)] | None = None
    """Number of pairs to evaluate before each merge, those of least Runnalls cost; 0 for all. Default: all pairs of up
    to 60 components; for N > 60 components, 100 N / n pairs with n components left."""
    starts: Annotated[int, Range(1)] = 1
    """Number of starts; the best result is kept. In this order: greedy merging by the criterion, runnalls, williams
    (local cost), then k-means on new samples for each further start."""
    iterations: Annotated[int, Range(1)] = 2000
    """Largest number of iterations of the optimiser, from each start."""
    gradient_tolerance: Annotated[float, Range(0)] = 1e-8
    """Tolerance of the gradient. The optimiser stops when no entry is larger."""

    name = "oggmr"

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Merge from each start, then optimise."""
        starts = [self.prepared(f, start()) for start in self._starts(f, generators)]
        if not self.optimise:
            best = min(starts, key=lambda start: start.distance(f, self.criterion))
            return replace(best, evaluations=sum(start.evaluations for start in starts))
        return best_of(f, starts, self.criterion, iterations=self.iterations, gradient=self.gradient_tolerance)

    def greedy(self, f: GaussianMixture) -> Reduction:
        """The first stage: while more than L components are left, merge the pair with the smallest d(f, g_ij)."""
        parts, keep = Gaussians.of(f), self.pair_filter
        if keep == 0 or (keep is None and f.n_components <= ALL_PAIRS):
            return reduction_of(merge_globally(parts, self.n_components, self.criterion))
        return reduction_of(
            merge_globally(parts, self.n_components, self.criterion, keep=keep or 0, filter_cost=kl_bound)
        )

    def prepared(self, f: GaussianMixture, start: Reduction) -> Reduction:
        """A start, with the best weights if `weights_qp` is set."""
        if not self.weights_qp:
            return start
        weighted = replace(start, mixture=best_weights(f, start.mixture, family_of(self.criterion)))
        return without_empty(f, min(start, weighted, key=lambda one: one.distance(f, self.criterion)))

    def _starts(self, f: GaussianMixture, generators: Generators) -> list[Callable[[], Reduction]]:
        parts = Gaussians.of(f)
        known: list[Callable[[], Reduction]] = [
            lambda: self.greedy(f),
            lambda: reduction_of(merge_cheapest(parts, self.n_components, kl_bound)),
            lambda: reduction_of(merge_cheapest(parts, self.n_components, local_ise(parts))),
        ]
        generator = generators("starts")
        drawn = [lambda: sampled_start(f, self.n_components, "k-means", generator)] * (self.starts - len(known))
        return [*known, *drawn][: self.starts]
