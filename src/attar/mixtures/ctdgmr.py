"""CTDGMR: minimise the cost of transporting the original's components to those of a smaller mixture.

It is a general form of many reducers: with the KL cost it is GMRC's clustering. Try it if each component has a meaning
and should move as a whole. The version with an entropy term may divide a component among several.
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
from attar.mixtures.gmrc import filled
from attar.mixtures.greedy import merge_cheapest
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.reduction import Reducer, Reduction, reduction_of
from attar.mixtures.runnalls import kl_bound
from attar.mixtures.starts import sampled_start

NOTHING = 1e-12
"""A Gaussian to which less of the weight moves counts as left out."""


@dataclass(frozen=True, kw_only=True)
class CTDGMR(Reducer):
    """Composite transportation of components (Zhang, Zhang and Chen, arXiv 2020, arXiv:2002.08410).

    The objective is Σ_i w_i min_j C(φ_i, φ_j), minimised over L Gaussians. With λ > 0 it is
    Σ_ij π_ij C_ij + λ Σ_ij π_ij (log π_ij - 1), minimised over plans π with row sums w too.
    """

    cost: GaussianCost = "kl"
    """Cost C of moving one Gaussian to another: KL, squared 2-Wasserstein distance, ISE or Cauchy-Schwarz."""
    regularisation: Annotated[float, Range(0)] = 0.0
    """Weight of the entropy, λ, in units of the cost. With 0 each component moves to one new component only."""
    start: Literal["k-means", "em", "runnalls"] = "k-means"
    """What the result is before the first step: clusters of samples, EM on samples, or the result of runnalls."""
    starts: Annotated[int, Range(1)] = 1
    """Number of starts; the best result is kept. Only k-means and em allow several starts."""
    rounds: Annotated[int, Range(1)] = 200
    """Largest number of rounds; each moves the components, then merges them."""
    tolerance: Annotated[float, Range(0)] = 1e-9
    """Relative fall of the objective in a round below which the method stops."""

    name = "ctdgmr"

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """The best result of all starts."""
        if self.start == "runnalls":
            starts = [reduction_of(merge_cheapest(Gaussians.of(f), self.n_components, kl_bound))]
        else:
            generator = generators("starts")
            starts = [sampled_start(f, self.n_components, self.start, generator) for _ in range(self.starts)]
        found = [self.transported(f, start) for start in starts]
        return min(found, key=lambda one: one.trace[-1])

    def transported(self, f: GaussianMixture, start: Reduction) -> Reduction:
        """Compute plans and barycentres in turn. Each lowers the objective."""
        g, values = start.mixture, []
        costs = cost_table(f, g, self.cost)
        for _ in range(self.rounds):
            plan, g = self.full_plan(f, g, costs)
            g = barycentres(f, plan, self.cost, g)
            costs = cost_table(f, g, self.cost)
            values.append(self.objective(plan, costs))
            if len(values) > 1 and values[-2] - values[-1] <= self.tolerance * max(abs(values[-1]), 1e-300):
                break
        plan, g = self.full_plan(f, g, costs)
        mixture = GaussianMixture(plan.sum(0), g.means, g.covariances, check=False)
        tried = len(values) * f.n_components * self.n_components
        return Reduction(mixture, plan.argmax(1), (*start.trace, *values), start.evaluations + tried)

    def full_plan(
        self, f: GaussianMixture, g: GaussianMixture, costs: Float[Tensor, "component group"]
    ) -> tuple[Float[Tensor, "component group"], GaussianMixture]:
        """The best plan, in which no Gaussian is left out, and the Gaussians that it leads to.

        A Gaussian to which nothing would move begins again at the component that is most costly to move. The objective
        falls, and as many components come out as were asked for.
        """
        plan = self.plan(f.weights, costs)
        empty = (plan.sum(0) <= NOTHING).nonzero().flatten()
        if not len(empty):
            return plan, g
        nearest = plan.argmax(1)
        labels = torch.from_numpy(filled(nearest.numpy(), (plan * costs).sum(1).numpy(), self.n_components))
        alone = torch.stack([(labels == group).nonzero()[0, 0] for group in empty.tolist()])
        means, covariances = g.means.clone(), g.full().covariances.clone()
        means[empty], covariances[empty] = f.means[alone], f.full().covariances[alone]
        g = GaussianMixture(g.weights, means, covariances, check=False)
        if self.regularisation:
            return self.plan(f.weights, cost_table(f, g, self.cost)), g
        return f.weights[:, None] * torch.nn.functional.one_hot(labels, self.n_components), g

    def plan(
        self, weights: Float[Tensor, " component"], costs: Float[Tensor, "component group"]
    ) -> Float[Tensor, "component group"]:
        """The plan π: all of w_i goes to the cheapest j, or π_ij = w_i exp(-C_ij / λ) / Σ_k exp(-C_ik / λ)."""
        if self.regularisation:
            return weights[:, None] * torch.softmax(-costs / self.regularisation, dim=1)
        cheapest = torch.nn.functional.one_hot(costs.argmin(1), costs.shape[1])
        return weights[:, None] * cheapest

    def objective(self, plan: Float[Tensor, "component group"], costs: Float[Tensor, "component group"]) -> float:
        """The transportation cost of a plan, plus the entropy term if λ > 0."""
        total = (plan * costs).sum()
        if self.regularisation:
            total = total + self.regularisation * (torch.xlogy(plan, plan) - plan).sum()
        return float(total)
