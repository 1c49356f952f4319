"""A picture of a mixture before and after: density curves in one dimension, ellipses in two.

In more dimensions it shows the plane of the original's two largest principal components.
"""

from typing import Any

import numpy as np
import torch

from attar.core.pictures import can_draw, figure
from attar.mixtures.mixture import GaussianMixture

BEFORE, AFTER = "#9aa5b1", "#c2410c"
DEVIATIONS = 1.5
"""Number of standard deviations at which an ellipse is drawn."""


def preview(original: GaussianMixture, reduced: GaussianMixture) -> bytes | None:
    """A PNG of both mixtures, or None if matplotlib is not installed."""
    if not can_draw():
        return None

    def draw(fig: Any) -> None:
        if original.dimension == 1:
            _curves(fig.subplots(), original, reduced)
            return
        axes = fig.subplots(1, 2, sharex=True, sharey=True)
        plane = _plane(original)
        nothing = torch.zeros(2, dtype=plane.dtype)
        for axis, mixture, colour in zip(axes, (original, reduced), (BEFORE, AFTER), strict=True):
            _ellipses(axis, mixture.affine(plane, nothing), colour)
            axis.set_title(f"{mixture.n_components} components")

    return figure(draw, 8, 4, dpi=110)


def _curves(axis: Any, original: GaussianMixture, reduced: GaussianMixture) -> None:
    centre, reach = original.means.flatten(), 3 * original.full().covariances.flatten().sqrt()
    points = torch.linspace(float((centre - reach).min()), float((centre + reach).max()), 600, dtype=centre.dtype)
    for mixture, colour, width in ((original, BEFORE, 4.0), (reduced, AFTER, 1.5)):
        density = mixture.log_prob(points[:, None]).exp()
        axis.plot(points, density, color=colour, linewidth=width, label=f"{mixture.n_components} components")
        for number in range(mixture.n_components if mixture is reduced else 0):
            part = mixture.weights[number] * mixture.select([number]).log_prob(points[:, None]).exp()
            axis.plot(points, part, color=colour, linewidth=0.6)
    axis.set_ylabel("density")
    axis.legend(frameon=False)


def _ellipses(axis: Any, mixture: GaussianMixture, colour: str) -> None:
    turn = np.linspace(0, 2 * np.pi, 90)
    circle = DEVIATIONS * np.stack([np.cos(turn), np.sin(turn)])
    strongest = float(mixture.weights.max())
    for weight, mean, covariance in zip(*(tensor.numpy() for tensor in mixture.tensors().values()), strict=True):
        outline = mean[:, None] + np.linalg.cholesky(covariance) @ circle
        axis.fill(*outline, color=colour, alpha=0.1 + 0.4 * float(weight) / strongest, linewidth=0)
        axis.plot(*outline, color=colour, linewidth=0.9)
    axis.set_aspect("equal")


def _plane(original: GaussianMixture) -> torch.Tensor:
    """Two directions as rows: the axes themselves in two dimensions, else the first two principal components."""
    d = original.dimension
    if d == 2:
        return torch.eye(2, dtype=original.means.dtype)
    directions = torch.linalg.eigh(original.covariance()).eigenvectors[:, -2:].flip(1)
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return (directions * largest.sign()).mT
