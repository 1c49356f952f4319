"""Euclidean distances between two sets of points, and the means of classes.

A matrix product is faster than differences. It loses small differences of points that lie far from zero, so points are
centred first. The distance itself is smoothed under its root, √(‖a - b‖² + 1e-6), so that points that coincide have a
finite gradient.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.precision import at_least_float32, without_autocast

SMOOTHING = 1e-6
"""Added to the squared distance under the root (the value of SuSana Distancia's authors)."""
Distance = Literal["squared", "unsquared"]

Points = Float[Tensor, "point d"]
Targets = Float[Tensor, "target d"]
Matrix = Float[Tensor, "point target"]


def squared_distances(a: Points, b: Targets) -> Matrix:
    """‖a_i - b_j‖², in single precision at least."""
    a, b = at_least_float32(a), at_least_float32(b)
    if len(b):
        centre = b.detach().mean(dim=0)
        a, b = a - centre, b - centre
    with without_autocast(a):
        squares = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1) - 2 * (a @ b.T)
    return squares.clamp_min(0)


def smooth_distances(a: Points, b: Targets) -> Matrix:
    """√(‖a_i - b_j‖² + 1e-6), in single precision at least."""
    return (squared_distances(a, b) + SMOOTHING).sqrt()


def distances(a: Points, b: Targets, distance: Distance = "unsquared") -> Matrix:
    """Squared Euclidean distances, or smoothed ones without the square."""
    return squared_distances(a, b) if distance == "squared" else smooth_distances(a, b)


def exact_distances(a: Points, b: Targets, squared: bool = False) -> Matrix:
    """Distances from differences, exact for points far from zero too. At distance zero the gradient is zero."""
    found = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return found.square() if squared else found


def prototypes_of(features: Points, labels: Int[Tensor, " point"], classes: int) -> Float[Tensor, "{classes} d"]:
    """The mean of the features of each class, 0 to `classes` - 1, each of which has some."""
    features = at_least_float32(features)
    sums = features.new_zeros(classes, features.shape[1]).index_add(0, labels, features)
    return sums / labels.bincount(minlength=classes).to(features.dtype)[:, None]
