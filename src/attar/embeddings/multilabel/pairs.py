"""Pairs of Gaussians with a variance for each feature: their distance, block by block, and its gradient.

ProbMCL's mixtures and KMCL's kernels compare all pairs of Gaussians. Written as a broadcast that is a tensor with an axis
of features on top of the pairs; here one feature after another is added in place.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

TOGETHER = 8
"""Largest number of variances whose product is taken before its logarithm, which is what costs most."""


class Gaussians(NamedTuple):
    """Means and variances, feature by feature: the features are the first axis."""

    means: Float[Tensor, "feature ..."]
    variances: Float[Tensor, "feature ..."]


class Scale(NamedTuple):
    """What brings features to the same place and size: constants, without a gradient."""

    centre: Float[Tensor, "*place"]
    size: Float[Tensor, "*place"]
    together: int
    """How many variances can be multiplied then."""


def precise(values: Tensor) -> Tensor:
    """Half precision becomes single precision."""
    return values if values.dtype == torch.float64 else values.float()


@torch.no_grad()
def scale_of(means: Float[Tensor, "... feature"], variances: Float[Tensor, "... feature"]) -> Scale:
    """Centre and size of each feature; divided by the size, variances lie around one half.

    Distances do not change when both are scaled, but means near one another stay apart in single precision however far
    from zero they lie, and products of several variances do not overflow.
    """
    lead = tuple(range(means.ndim - 1))
    size = 2 * variances.log().mean(dim=lead).exp()
    lowest, highest = torch.aminmax(variances / size)
    widest = max(abs(math.log10(2 * float(highest))), abs(math.log10(2 * float(lowest))), 1e-3)
    limit = 37.0 if means.dtype == torch.float32 else 300.0
    return Scale(means.mean(dim=lead), size, max(1, min(TOGETHER, int(limit / widest))))


def gap(a: Gaussians, b: Gaussians, share: float, together: int) -> Tensor:
    """Σ share · (μ − ν)² / (v + w) + log(v + w) over features, for means μ, ν and variances v, w that broadcast.

    Args:
        a: Gaussians on one side.
        b: Gaussians on the other side.
        share: Weight of the squared distances.
        together: How many variances are multiplied before the logarithm.
    """
    squares: Tensor | None = None
    product: Tensor | None = None
    features = len(a.means)
    for feature in range(features):
        spread = a.variances[feature] + b.variances[feature]
        apart = (a.means[feature] - b.means[feature]).square_().div_(spread)
        squares = apart if squares is None else squares.add_(apart)
        product = spread if product is None else product.mul_(spread)
        if (feature + 1) % together == 0 or feature == features - 1:
            squares.add_(product.log_(), alpha=1 / share)
            product = None
    assert squares is not None
    return squares.mul_(share)


def gap_gradients(a: Gaussians, b: Gaussians, share: float, given: Tensor, into: tuple[Gaussians, Gaussians]) -> None:
    """Add the gradient of `gap` to that of both sides.

    Args:
        a: As for `gap`.
        b: As for `gap`.
        share: As for `gap`.
        given: The gradient of what `gap` returned.
        into: Where the gradients of both sides are added.
    """
    for feature in range(len(a.means)):
        inverse = (a.variances[feature] + b.variances[feature]).reciprocal_()
        slope = (a.means[feature] - b.means[feature]).mul_(inverse)
        pull = given * slope
        spread = inverse.mul_(given).addcmul_(pull, slope, value=-share)
        for side, sign in zip(into, (1, -1), strict=True):
            shape = side.means[feature].shape
            side.means[feature].add_(pull.sum_to_size(shape), alpha=2 * share * sign)
            side.variances[feature].add_(spread.sum_to_size(shape))
