"""Pairs of Gaussians with a variance for each feature: their distance, block by block, and its gradient.

ProbMCL's mixtures and KMCL's kernels compare all pairs of Gaussians. Written as a broadcast that is a tensor with an
axis of features on top of the pairs; here one feature after another is added in place.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
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
    pairs = zip(*(part.unbind() for part in (*a, *b)), strict=True)
    found = product = torch.empty(0)
    for number, (mean, variance, other_mean, other_variance) in enumerate(pairs, start=1):
        spread = variance + other_variance
        apart = (mean - other_mean).square_()
        found = apart.div_(spread) if number == 1 else found.addcdiv_(apart, spread)
        product = spread if number % together == 1 or together == 1 else product.mul_(spread)
        if number % together == 0 or number == len(a.means):
            found.add_(product.log_(), alpha=1 / share)
    return found.mul_(share)


def gap_gradients(a: Gaussians, b: Gaussians, share: float, given: Tensor, into: tuple[Gaussians, Gaussians]) -> None:
    """Add the gradient of `gap` to that of both sides.

    Args:
        a: As for `gap`.
        b: As for `gap`.
        share: As for `gap`.
        given: The gradient of what `gap` returned.
        into: Where the gradients of both sides are added.
    """
    over = [_axes(side.means[0].shape, given.shape) for side in into]
    parts = zip(*(part.unbind() for part in (*a, *b, *into[0], *into[1])), strict=True)
    for mean, variance, other_mean, other_variance, *to in parts:
        inverse = (variance + other_variance).reciprocal_()
        slope = (mean - other_mean).mul_(inverse)
        pull = given * slope
        spread = inverse.mul_(given).addcmul_(pull, slope, value=-share)
        for place, axes, sign in ((0, over[0], 1), (2, over[1], -1)):
            to[place].add_(_sum(pull, axes), alpha=2 * share * sign)
            to[place + 1].add_(_sum(spread, axes))


def negative_log_share(
    joint: Float[Tensor, "sample component"], present: Bool[Tensor, "sample component"]
) -> Float[Tensor, ""]:
    """−log of the share that components of present classes have in Σ_k exp(joint_k), averaged over samples with labels.

    Args:
        joint: log π_k e_k, of the weight and the density of each component, one for each class.
        present: Which classes each sample has. Samples without any are left out.
    """
    some = present.any(dim=1)
    share = joint.masked_fill(~present & some[:, None], -torch.inf).logsumexp(dim=1)
    return (joint.logsumexp(dim=1) - share).sum() / some.sum().clamp(min=1)  # a row without labels is zero


def _sum(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    return values.sum(axes, keepdim=True) if axes else values


def _axes(shape: torch.Size, whole: torch.Size) -> tuple[int, ...]:
    """The axes along which one side is repeated."""
    return tuple(axis for axis, (one, all_) in enumerate(zip(shape, whole, strict=True)) if one < all_)
