"""Direct minimisation of a distance over all parameters, from several starts that do not depend on that distance.

It gives the best quality per component, so a new criterion has to beat it. From the same start, ISE and NISE end in
practically the same mixture. Cauchy-Schwarz and the angle end in exactly the same mixture.
ISE: Scott and Szewczyk, From Kernels to Mixtures, Technometrics 43(3), 2001. NISE: Petrucci, Gaussian Mixture
Reduction for Bayesian Target Tracking in Clutter, Air Force Institute of Technology, 2005. Cauchy-Schwarz: Kampa,
Hasanbelliu and Principe, Closed-Form Cauchy-Schwarz PDF Divergence for Mixture of Gaussians, IJCNN 2011.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, get_args

from attar.core.errors import InputError
from attar.core.seeds import Generators
from attar.core.settings import Range
from attar.mixtures.gaussians import Gaussians
from attar.mixtures.greedy import merge_cheapest
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.optimise import best_of
from attar.mixtures.reduction import Reducer, Reduction, reduction_of
from attar.mixtures.runnalls import kl_bound
from attar.mixtures.starts import sampled_start
from attar.mixtures.williams import local_ise

Start = Literal["runnalls", "williams", "k-means", "em"]


@dataclass(frozen=True, kw_only=True)
class Direct(Reducer):
    """Minimise the ISE, the NISE or the Cauchy-Schwarz divergence by L-BFGS from several starts."""

    criterion: Literal["ise", "nise", "cauchy_schwarz"] = "nise"
    """Distance to the original that is minimised."""
    start_from: tuple[Start, ...] = ("runnalls", "williams")
    """Starts of the optimiser: runnalls, williams (local cost), k-means or EM on samples. The best end is kept."""
    iterations: Annotated[int, Range(1)] = 2000
    """Largest number of iterations of the optimiser, from each start."""

    moved = MappingProxyType({**Reducer.moved, "starts": "start_from"})
    name = "direct"

    def __post_init__(self) -> None:
        """Check the ranges, and that there is a start."""
        super().__post_init__()
        if not self.start_from:
            raise InputError(f"start_from is empty. Name at least one of {', '.join(get_args(Start))}.")

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Minimise from each start and keep the best result."""
        starts = [self._start(f, start, generators) for start in self.start_from]
        return best_of(f, starts, self.criterion, iterations=self.iterations)

    def _start(self, f: GaussianMixture, start: Start, generators: Generators) -> Reduction:
        parts = Gaussians.of(f)
        if start == "runnalls":
            return reduction_of(merge_cheapest(parts, self.n_components, kl_bound))
        if start == "williams":
            return reduction_of(merge_cheapest(parts, self.n_components, local_ise(parts)))
        return sampled_start(f, self.n_components, start, generators("starts"))
