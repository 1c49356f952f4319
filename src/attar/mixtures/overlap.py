"""The log overlaps of all pairs and their derivatives in closed form, for optimisers that need them thousands of times.

The numbers are those of `attar.mixtures.distances.log_overlap`, in double precision. For small Gaussians this is many
times faster. With R = S + T, y = m - μ and x = R⁻¹ y, the log of o = N(μ; m, R) is
-½ (yᵀ R⁻¹ y + log |R| + d log 2π), and

    ∂ log o / ∂μ = x = -∂ log o / ∂m        ∂ log o / ∂S = ∂ log o / ∂T = ½ (x xᵀ - R⁻¹)

One sweep of [[R, y], [yᵀ, 0]] gives all these terms. Pairs lie along the last two axes, so each step of the sweep is
one vector operation over all pairs.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from attar.mixtures.gaussians import LOG_2PI, at_once

Pairs = Float[np.ndarray, "row column"]
Work = Float[np.ndarray, "size size row column"]

CELLS = 2**12
"""Number of values to process in one operation if there is a choice; they fit the first-level cache."""


def bordered(
    means: Float[np.ndarray, "dimension component"], covariances: Float[np.ndarray, "dimension dimension component"]
) -> Float[np.ndarray, "size size component"]:
    """Gaussians as matrices [[S, μ], [μᵀ, 0]]. Two such matrices suffice to compute an overlap."""
    d, count = means.shape
    matrices = np.zeros((d + 1, d + 1, count))
    matrices[:d, :d] = covariances
    matrices[d, :d] = matrices[:d, d] = means
    return matrices


def log_overlaps(
    rows: Float[np.ndarray, "size size row"], columns: Float[np.ndarray, "size size column"]
) -> tuple[Pairs, Work]:
    """The log overlaps of every row with every column, both `bordered`, and the matrices after the sweep."""
    d = len(rows) - 1
    negative = rows.copy()
    negative[d] *= -1
    negative[:d, d] *= -1
    work = negative[..., None] + columns[:, :, None]
    determinants = np.empty(work.shape[2:])
    tall = max(at_once(d) // work.shape[3], 1)
    for start in range(0, work.shape[2], tall):
        some = slice(start, start + tall)
        determinants[some] = sweep(work[:, :, some])
    return 0.5 * (work[d, d] - determinants - d * LOG_2PI), work


def slopes_of_rows(
    work: Work, slopes: Pairs
) -> tuple[Float[np.ndarray, "row dimension"], Float[np.ndarray, "row dimension dimension"]]:
    """Derivatives for means and covariances of the rows: ∂/∂μ = Σ s x and ∂/∂S = ½ Σ s (x xᵀ - R⁻¹), over columns.

    Args:
        work: The matrices after the sweep.
        slopes: Derivatives s for the log overlaps.
    """
    d = len(work) - 1
    summed = np.einsum("abrc,rc->rab", work, slopes)
    solved = work[d, :d].swapaxes(0, 1)
    of_covariances = (solved * slopes[:, None]) @ solved.swapaxes(1, 2)
    of_covariances += summed[:, :d, :d]  # -R⁻¹, on the diagonal and below
    of_covariances *= 0.5
    below, before = below_diagonal(d)
    of_covariances[:, before, below] = of_covariances[:, below, before]
    return summed[:, d, :d], of_covariances


def sweep(work: Work) -> Pairs:
    """The sweep operator on all pivots but the last, in place, on the lower triangle.

    It turns ``[[R, ·], [yᵀ, 0]]`` into ``[[-R⁻¹, ·], [(R⁻¹y)ᵀ, -yᵀR⁻¹y]]`` and returns log |R|. If pairs are few, it
    processes several rows together, because the calls would cost more than the arithmetic above the diagonal.
    """
    size, pairs = len(work), work[0, 0].size
    tall = min(max(CELLS // pairs, 1), size)
    column, factors, product = np.empty_like(work[0]), np.empty_like(work[0]), np.empty_like(work[:tall])
    pivots = np.empty_like(work[:-1, 0])
    for k in range(size - 1):
        column[:k], column[k:] = work[k, :k], work[k:, k]
        pivots[k] = column[k]
        np.divide(column, pivots[k], out=factors)
        for start in range(0, size, tall):
            end = min(start + tall, size)
            some = product[: end - start, :end]
            np.multiply(factors[start:end, None], column[:end], out=some)
            np.subtract(work[start:end, :end], some, out=work[start:end, :end])
        work[k, :k], work[k:, k] = factors[:k], factors[k:]
        np.divide(-1.0, pivots[k], out=work[k, k])
    logs: Pairs = np.log(pivots).sum(axis=0)
    return logs


@cache
def below_diagonal(dimension: int) -> tuple[Int[np.ndarray, " entry"], Int[np.ndarray, " entry"]]:
    """The row and column numbers of a matrix's entries below the diagonal, row by row."""
    return np.tril_indices(dimension, -1)


def log_overlap(
    first_means: Float[Tensor, "first dimension"],
    first_covariances: Float[Tensor, "first dimension dimension"],
    second_means: Float[Tensor, "second dimension"],
    second_covariances: Float[Tensor, "second dimension dimension"],
) -> Float[Tensor, "first second"]:
    """The log overlaps of unit-weight Gaussians, every first with every second, as a tensor; differentiable once."""
    logs: Tensor = _LogOverlap.apply(first_means, first_covariances, second_means, second_covariances)
    return logs


class _LogOverlap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *gaussians: Tensor) -> Tensor:
        means, covariances, other_means, other_covariances = (_last(tensor) for tensor in gaussians)
        with np.errstate(all="ignore"):  # a line search may try covariances that overflow: it gets NaN
            logs, ctx.work = log_overlaps(bordered(means, covariances), bordered(other_means, other_covariances))
        return torch.from_numpy(logs)

    @staticmethod
    @once_differentiable
    @np.errstate(all="ignore")
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        work, slope = ctx.work, slopes[0].numpy()
        found: list[Tensor | None] = [None] * 4
        if any(ctx.needs_input_grad[:2]):
            found[:2] = map(torch.from_numpy, slopes_of_rows(work, slope))
        if any(ctx.needs_input_grad[2:]):
            of_means, of_covariances = slopes_of_rows(work.swapaxes(2, 3), slope.T)
            found[2:] = torch.from_numpy(-of_means), torch.from_numpy(of_covariances)
        return tuple(found)


def _last(tensor: Tensor) -> np.ndarray:
    """A tensor as an array, with the component axis moved to the end."""
    return np.ascontiguousarray(np.moveaxis(tensor.detach().numpy(), 0, -1))
