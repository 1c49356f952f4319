"""CTDGMR: least cost of moving the components of the original to those of a smaller mixture, for any cost of Gaussians.

A frame for many reducers: with the KL cost it is GMRC's clustering. Worth trying where components mean something and
should move as a whole. The entropic version lets components divide themselves.
Zhang, Zhang and Chen, Gaussian Mixture Reduction with Composite Transportation Divergence, IEEE Transactions on
Information Theory 2024, arXiv:2002.08410.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.seeds import Generators
from attar.core.settings import Range
from attar.mixtures.barycentres import GaussianCost, barycentres, cost_table
from attar.mixtures.gaussians import Gaussians
from attar.mixtures.greedy import merge_cheapest
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.reduction import Reducer, Reduction, reduction_of
from attar.mixtures.runnalls import kl_bound
from attar.mixtures.starts import sampled_start


@dataclass(frozen=True, kw_only=True)
class CTDGMR(Reducer):
    """Composite transportation of components (Zhang, Zhang and Chen, arXiv 2020, arXiv:2002.08410).

    min over L Gaussians of Σ_i w_i min_j C(φ_i, φ_j); with λ > 0, Σ_ij π_ij C_ij + λ Σ_ij π_ij (log π_ij - 1) over
    plans π with row sums w.
    """

    cost: GaussianCost = "kl"
    """Cost C of moving one Gaussian to another: KL, squared 2-Wasserstein, ISE or Cauchy-Schwarz."""
    regularisation: Annotated[float, Range(0)] = 0.0
    """Weight λ of the entropy, in units of the cost; 0 sends each component to one place."""
    start: Literal["k-means", "em", "runnalls"] = "k-means"
    """What the result is before the first step: clusters of samples, EM on samples, or Runnalls' result."""
    starts: Annotated[int, Range(1)] = 1
    """How many starts to take the best of, where they are drawn."""
    rounds: Annotated[int, Range(1)] = 200
    """Rounds at most, of moving and merging."""
    tolerance: Annotated[float, Range(0)] = 1e-9
    """Stop when the objective falls by less than this share."""

    name = "ctdgmr"

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """The best of all starts."""
        if self.start == "runnalls":
            starts = [reduction_of(merge_cheapest(Gaussians.of(f), self.n_components, kl_bound))]
        else:
            generator = generators("starts")
            starts = [sampled_start(f, self.n_components, self.start, generator) for _ in range(self.starts)]
        found = [self.transported(f, start) for start in starts]
        return min(found, key=lambda one: one.trace[-1])

    def transported(self, f: GaussianMixture, start: Reduction) -> Reduction:
        """Plans and barycentres in turn; the objective falls with both."""
        g, values = start.mixture, []
        costs = cost_table(f, g, self.cost)
        for _ in range(self.rounds):
            plan = self.plan(f.weights, costs)
            used = plan.sum(0) > 0
            g = barycentres(f, plan[:, used], self.cost, _selected(g, used))
            costs = cost_table(f, g, self.cost)
            values.append(self.objective(plan[:, used], costs))
            if len(values) > 1 and values[-2] - values[-1] <= self.tolerance * max(abs(values[-1]), 1e-300):
                break
        plan = self.plan(f.weights, costs)
        kept = plan.sum(0) > 0
        g, plan = _selected(g, kept), plan[:, kept]
        mixture = GaussianMixture(plan.sum(0), g.means, g.covariances, check=False)
        tried = len(values) * f.n_components * self.n_components
        return Reduction(mixture, plan.argmax(1), (*start.trace, *values), start.evaluations + tried)

    def plan(
        self, weights: Float[Tensor, " component"], costs: Float[Tensor, "component group"]
    ) -> Float[Tensor, "component group"]:
        """π_ij: all of w_i to the cheapest j, or w_i exp(-C_ij / λ) / Σ_k exp(-C_ik / λ)."""
        if self.regularisation:
            return weights[:, None] * torch.softmax(-costs / self.regularisation, dim=1)
        cheapest = torch.nn.functional.one_hot(costs.argmin(1), costs.shape[1])
        return weights[:, None] * cheapest

    def objective(self, plan: Float[Tensor, "component group"], costs: Float[Tensor, "component group"]) -> float:
        """The transportation cost of a plan, with the entropy's part."""
        total = (plan * costs).sum()
        if self.regularisation:
            total = total + self.regularisation * (torch.xlogy(plan, plan) - plan).sum()
        return float(total)


def _selected(g: GaussianMixture, used: Tensor) -> GaussianMixture:
    return g if used.all() else g.select(used.nonzero().flatten())
