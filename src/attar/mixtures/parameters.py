"""The parameters of a Gaussian mixture: weights, means and covariances of one of four types, and their checks."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from attar.core.errors import InputError, unknown

CovarianceType = Literal["full", "tied", "diag", "spherical"]
COVARIANCES = {"full": "n d d", "tied": "d d", "diag": "n d", "spherical": "n"}
"""The shape of `covariances` after the batch dimensions, n components in d dimensions, by type."""

ROUNDING = 1e-5
"""Largest difference from 1 of the sum of weights: the precision of float32 after a thousand components."""

Values = Tensor | np.ndarray | Sequence[Any] | float


class Parameters(NamedTuple):
    """The numbers of a mixture as they were given, in the order of `GaussianMixture`'s arguments."""

    weights: Values
    means: Values
    covariances: Values
    covariance_type: str = "full"


def as_tensor(values: Values, dtype: torch.dtype) -> Tensor:
    """Numbers of any form as a tensor. A tensor keeps its gradient.

    Raises:
        InputError: The values are not numbers, or not in a regular array.
    """
    if isinstance(values, Tensor):
        return values.to(dtype)
    try:
        return torch.as_tensor(np.asarray(values, dtype=float)).to(dtype)
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"weights, means and covariances must be numbers in regular arrays: {error}.") from None


def check_type(covariance_type: str) -> None:
    """Refuse a name that is not one of the four types.

    Raises:
        InputError: The type is unknown.
    """
    if covariance_type not in COVARIANCES:
        raise unknown("covariance_type", covariance_type, COVARIANCES)


def check_parameters(weights: Tensor, means: Tensor, covariances: Tensor, covariance_type: str) -> None:
    """Refuse parameters that are not a mixture.

    Raises:
        InputError: Shapes do not fit, a number is NaN, a weight is negative, the weights do not sum to 1, or a
            covariance is not symmetric and positive definite. The message names the component.
    """
    _check_shapes(weights, means, covariances, covariance_type)
    weights, means, covariances = weights.detach(), means.detach(), covariances.detach()
    _check_weights(weights)
    for name, values in (("weights", weights), ("means", means), ("covariances", covariances)):
        _check_finite(name, values)
    batch = weights.ndim - 1
    if covariance_type in ("diag", "spherical"):
        _check_variances(covariances, batch)
    else:
        _check_matrices(covariances, batch, tied=covariance_type == "tied")


def _check_shapes(weights: Tensor, means: Tensor, covariances: Tensor, covariance_type: str) -> None:
    if weights.ndim < 1 or means.ndim < 2 or 0 in means.shape:
        shapes = f"{tuple(weights.shape)} and {tuple(means.shape)}"
        raise InputError(f"weights and means have shapes {shapes}; they must be [*batch, n] and [*batch, n, d].")
    batch, (n, d) = means.shape[:-2], means.shape[-2:]
    sizes = {"n": n, "d": d}
    wanted = (*batch, *(sizes[axis] for axis in COVARIANCES[covariance_type].split()))
    if weights.shape != (*batch, n):
        raise InputError(f"weights have shape {tuple(weights.shape)}; with these means it must be {(*batch, n)}.")
    if covariances.shape != wanted:
        raise InputError(
            f"covariances have shape {tuple(covariances.shape)}; {covariance_type} covariances of {n} components "
            f"in {d} dimensions must have {wanted}."
        )


def _check_weights(weights: Tensor) -> None:
    if weights.isnan().any():
        return  # the check for finite numbers reports it
    wrong = (weights < 0).nonzero()
    if len(wrong):
        place = wrong[0].tolist()
        raise InputError(f"weights{place} is {weights[tuple(place)].item():g}; weights must not be negative.")
    total = weights.sum(-1)
    if ((total - 1).abs() > ROUNDING).any():
        worst = total.flatten()[(total - 1).abs().argmax()]
        raise InputError(f"the weights sum to {worst.item():g}; they must sum to 1.")


def _check_finite(name: str, values: Tensor) -> None:
    wrong = (~values.isfinite()).nonzero()
    if len(wrong):
        place = wrong[0].tolist()
        raise InputError(f"{name}{place} is {values[tuple(place)].item()}; every number must be finite.")


def _check_variances(values: Tensor, batch: int) -> None:
    wrong = (values <= 0).nonzero()
    if len(wrong):
        place = wrong[0].tolist()
        value = values[tuple(place)].item()
        raise InputError(f"the variance of component {place[batch]} is {value:g}; it must be positive.")


def _check_matrices(values: Tensor, batch: int, *, tied: bool) -> None:
    scale = values.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    uneven = (values - values.mT).abs().amax((-2, -1)) > 1e3 * torch.finfo(values.dtype).eps * scale
    if uneven.any():
        raise InputError(f"the covariance of {_place(uneven, batch, tied=tied)} is not symmetric.")
    factor, failed = torch.linalg.cholesky_ex(values)
    # A pivot is the variance of a coordinate given the coordinates before it. It must not be negligible compared with
    # the coordinate's own variance.
    pivots, own = factor.diagonal(dim1=-2, dim2=-1).square(), values.diagonal(dim1=-2, dim2=-1)
    singular = (pivots <= 4 * values.shape[-1] * torch.finfo(values.dtype).eps * own).any(-1)
    bad = (failed != 0) | singular
    if bad.any():
        place = _place(bad, batch, tied=tied)
        raise InputError(
            f"the covariance of {place} is not positive definite; check it, or fit with a larger reg_covar."
        )


def _place(wrong: Tensor, batch: int, *, tied: bool) -> str:
    *before, last = wrong.reshape(wrong.shape or (1,)).nonzero()[0].tolist()
    if tied:
        return f"mixture {[*before, last]}" if batch else "the tied mixture"
    return f"component {last}" + (f" of mixture {before}" if batch else "")
