"""OGGMR: merge greedily by the distance of the whole reduced mixture to the original, then optimise all parameters.

The one to take where shape counts. Its greedy stage is better than merging by costs of pairs alone, and the optimiser
about halves what is left. In one or two dimensions it then ties with minimising the ISE or NISE from the same start; in
more, the angle, which compares directions, may leave the heights of peaks off: `criterion="nise"` minds them too.
Sajedi, Lawryshyn and Plataniotis, A New Probabilistic Distance Metric With Application in Gaussian Mixture Reduction,
ICASSP 2023, arXiv:2306.07309. Reconstructed from what the abstract says: the paper's exact steps could not be checked.
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
"""Components up to which every pair is looked at, unless told."""


@dataclass(frozen=True, kw_only=True)
class OGGMR(Reducer):
    """Greedy merging by distance to the original, then optimisation (Sajedi et al., ICASSP 2023, arXiv:2306.07309)."""

    criterion: Criterion = "angle"
    """Distance to the original that both stages make small; the last four are no metrics."""
    optimise: bool = True
    """Whether all parameters are optimised after merging."""
    weights_qp: bool = False
    """Whether the weights alone are solved for after merging, which is exact and quick."""
    pair_filter: Annotated[int, Range(0)] | None = None
    """Pairs looked at before each merge, those of least Runnalls cost; 0 for all. Unless given: all up to 60
    components; beyond, 100 N / n with n of N components left, few while a merge costs little."""
    starts: Annotated[int, Range(1)] = 1
    """How many starts to take the best of: own merging, Runnalls', Williams' by pairs, then k-means on samples, each
    drawn anew."""
    iterations: Annotated[int, Range(1)] = 2000
    """Iterations of the optimiser at most, from each start."""
    gradient_tolerance: Annotated[float, Range(0)] = 1e-8
    """Largest entry of the gradient at which it stops."""

    name = "oggmr"

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Both stages."""
        starts = [self.prepared(f, start()) for start in self._starts(f, generators)]
        if not self.optimise:
            best = min(starts, key=lambda start: start.distance(f, self.criterion))
            return replace(best, evaluations=sum(start.evaluations for start in starts))
        return best_of(f, starts, self.criterion, iterations=self.iterations, gradient=self.gradient_tolerance)

    def greedy(self, f: GaussianMixture) -> Reduction:
        """The first stage: while there are more than L components, merge the pair with the smallest d(f, g_ij)."""
        parts, keep = Gaussians.of(f), self.pair_filter
        if keep == 0 or (keep is None and f.n_components <= ALL_PAIRS):
            return reduction_of(merge_globally(parts, self.n_components, self.criterion))
        return reduction_of(
            merge_globally(parts, self.n_components, self.criterion, keep=keep or 0, filter_cost=kl_bound)
        )

    def prepared(self, f: GaussianMixture, start: Reduction) -> Reduction:
        """A start with its weights solved for, if asked."""
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
