"""GMRC: begin with Runnalls' result, improve it by k-means until no component changes its cluster, optimise the ISE.

It is much slower than Runnalls, and better in ISE by about as much.
Schieferdecker and Huber, Gaussian Mixture Reduction via Clustering, FUSION 2009.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int

from attar.core.seeds import Generators
from attar.core.settings import Range
from attar.mixtures.gaussians import Gaussians, kl_table
from attar.mixtures.greedy import merge_cheapest
from attar.mixtures.merging import merge_groups
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.optimise import optimised
from attar.mixtures.reduction import Reducer, Reduction
from attar.mixtures.runnalls import kl_bound


@dataclass(frozen=True, kw_only=True)
class GMRC(Reducer):
    """Cluster components by k-means with KL, then minimise the ISE (Schieferdecker and Huber, FUSION 2009)."""

    rounds: Annotated[int, Range(0)] = 100
    """Largest number of rounds of k-means."""
    optimise: bool = True
    """Whether to optimise all parameters for the ISE at the end."""
    iterations: Annotated[int, Range(1)] = 2000
    """Largest number of iterations of the optimiser."""

    name = "gmrc"

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Merge as Runnalls, cluster by k-means, then optimise by a quasi-Newton method."""
        merging = merge_cheapest(Gaussians.of(f), self.n_components, kl_bound)
        labels, objectives = cluster(f, merging.labels, self.n_components, rounds=self.rounds)
        assignment = torch.from_numpy(labels)
        found = Reduction(
            merge_groups(f, assignment, self.n_components),
            assignment,
            (*merging.trace, *objectives),
            merging.evaluations + len(objectives) * f.n_components * self.n_components,
        )
        return optimised(f, found, "ise", iterations=self.iterations) if self.optimise else found


def cluster(
    f: GaussianMixture, labels: Int[np.ndarray, " component"], n_components: int, *, rounds: int = 100
) -> tuple[Int[np.ndarray, " component"], list[float]]:
    """k-means of Gaussians.

    Each component goes to the cluster with the least KL(φ_i ‖ φ_j). Each cluster is represented by its merge.

    Args:
        f: The original mixture.
        labels: Cluster of each component at the start.
        n_components: Number of clusters. None of them may be empty at the start.
        rounds: Largest number of rounds.

    Returns:
        The cluster of each component, and Σ_i w_i KL(φ_i ‖ merge of its cluster) in each round, which never grows.
    """
    parts, labels = Gaussians.of(f), labels.astype(np.int64)
    rows, objectives = np.arange(len(parts)), []
    for _ in range(rounds):
        gaps = kl_table(parts, Gaussians.of(merge_groups(f, torch.from_numpy(labels), n_components)))
        objectives.append(float(parts.weights @ gaps[rows, labels]))
        nearest = gaps.argmin(axis=1)
        # A component changes its cluster only for a real gain; otherwise rounding could make it alternate for ever.
        fresh = np.where(gaps[rows, nearest] < gaps[rows, labels] - 1e-12, nearest, labels)
        fresh = filled(fresh, parts.weights * gaps[rows, fresh], n_components)
        if (fresh == labels).all():
            break
        labels = fresh
    return labels, objectives


def filled(
    labels: Int[np.ndarray, " component"], costs: Float[np.ndarray, " component"], count: int
) -> Int[np.ndarray, " component"]:
    """Clusters of which none is empty: an empty one gets the component with the largest cost in its own cluster.

    This lowers the objective, because a component alone costs nothing.

    Args:
        labels: Cluster of each component.
        costs: Cost of each component in its cluster, weighted.
        count: Number of clusters, at most that of the components.
    """
    labels = labels.copy()
    for cluster_ in range(count):
        sizes = np.bincount(labels, minlength=count)
        if sizes[cluster_] == 0:
            worst = int(np.where(sizes[labels] > 1, costs, -np.inf).argmax())
            labels[worst], costs = cluster_, np.where(np.arange(len(costs)) == worst, 0.0, costs)
    return labels
