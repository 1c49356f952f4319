"""Reduced mixtures to begin with that do not depend on merging: clusters of samples, or EM on samples."""

from typing import Literal

import numpy as np
import torch

from attar.mixtures.gaussians import Gaussians, kl_table
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.reduction import Reduction

SAMPLES = 10_000
"""Number of points drawn from the original, as in the experiments of the CTDGMR paper."""


def sampled_start(
    f: GaussianMixture, n_components: int, start: Literal["k-means", "em"], generator: torch.Generator
) -> Reduction:
    """A mixture made of clusters of samples from f, or fitted to samples from f by EM.

    Args:
        f: The original mixture.
        n_components: Number of clusters or components.
        start: Whether to cluster by k-means or to fit by EM.
        generator: Generator that draws the samples and the first centres.
    """
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Fitted

    points = f.sample(max(SAMPLES, 20 * n_components), generator).numpy()
    seed = int(torch.randint(2**31, (), generator=generator))
    ridge = 1e-6 * float(f.covariance().diagonal().mean())
    if start == "em":
        model = Fitted(n_components=n_components, reg_covar=ridge, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a start need not have converged
            model.fit(points)
        g = GaussianMixture.from_sklearn(model)
    else:
        labels = KMeans(n_components, n_init=1, random_state=seed).fit_predict(points)
        g = _of_clusters(points, labels, n_components, ridge)
    assignment = torch.from_numpy(kl_table(Gaussians.of(f), Gaussians.of(g)).argmin(axis=1))
    return Reduction(g, assignment, (), 0)


def _of_clusters(points: np.ndarray, labels: np.ndarray, count: int, ridge: float) -> GaussianMixture:
    groups = [points[labels == label] for label in range(count)]
    weights = np.array([len(group) for group in groups]) / len(points)
    means = np.stack([group.mean(axis=0) for group in groups])
    spread = [(group - mean).T @ (group - mean) / len(group) for group, mean in zip(groups, means, strict=True)]
    return GaussianMixture(weights, means, np.stack(spread) + ridge * np.eye(points.shape[1]))
