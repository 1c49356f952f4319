"""Arithmetic on many small Gaussians at once in NumPy; every search uses it.

Components lie along the last axis, so each step of a Cholesky-like elimination is one vector operation over all of
them. In a few dimensions this is many times faster than a library that factorises the small matrices one by one.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from attar.mixtures.mixture import GaussianMixture

Logs = Float[np.ndarray, "*pair"]

LOG_2PI = math.log(2 * math.pi)

_kept = threading.local()


@dataclass(frozen=True)
class Gaussians:
    """Weighted Gaussians. Components lie along the last axis of each array."""

    weights: Float[np.ndarray, " component"]
    means: Float[np.ndarray, "dimension component"]
    covariances: Float[np.ndarray, "dimension dimension component"]
    log_determinants: Float[np.ndarray, " component"]

    @classmethod
    def of(cls, mixture: GaussianMixture) -> "Gaussians":
        """The Gaussians of a single mixture, in double precision."""
        weights, means, covariances = (tensor.numpy() for tensor in mixture.plain().full().tensors().values())
        return cls.made(weights.copy(), means.T.copy(), np.moveaxis(covariances, 0, -1).copy())

    @classmethod
    def made(cls, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> "Gaussians":
        """Gaussians from arrays in this layout; the log determinants are computed."""
        return cls(weights, means, covariances, log_determinant(covariances))

    def mixture(self) -> GaussianMixture:
        """The Gaussians as a mixture with full covariances."""
        covariances = torch.from_numpy(np.ascontiguousarray(np.moveaxis(self.covariances, -1, 0)))
        means = torch.from_numpy(np.ascontiguousarray(self.means.T))
        return GaussianMixture(torch.from_numpy(self.weights.copy()), means, covariances, check=False)

    def __len__(self) -> int:
        return self.weights.shape[0]

    @property
    def dimension(self) -> int:
        """Dimension of the space."""
        return self.means.shape[0]

    def take(self, places: Int[np.ndarray, " some"] | Sequence[int]) -> "Gaussians":
        """Copies of some of the Gaussians."""
        return Gaussians(
            self.weights[places],
            self.means[:, places],
            self.covariances[:, :, places],
            self.log_determinants[places],
        )

    def part(self, places: slice) -> "Gaussians":
        """A contiguous part of the Gaussians, without a copy."""
        arrays = self.weights, self.means, self.covariances, self.log_determinants
        return Gaussians(*(array[..., places] for array in arrays))

    def copy(self) -> "Gaussians":
        """A copy that may be overwritten."""
        return Gaussians(*(array.copy() for array in vars(self).values()))

    def put(self, place: int, other: "Gaussians") -> None:
        """Overwrite the Gaussian at a place by another one, given as a set of one."""
        self.weights[place] = other.weights[0]
        self.means[:, place] = other.means[:, 0]
        self.covariances[:, :, place] = other.covariances[:, :, 0]
        self.log_determinants[place] = other.log_determinants[0]


def merged(first: Gaussians, second: Gaussians) -> Gaussians:
    """Moment-preserving merges, pair by pair.

    With W = w_i + w_j and a = w_i / W: m = a μ_i + (1-a) μ_j, P = a S_i + (1-a) S_j + a(1-a) (μ_i-μ_j)(μ_i-μ_j)ᵀ.
    If both weights are zero, a is ½. One side may be a single Gaussian, which is merged with each of the other side.
    """
    weights = first.weights + second.weights
    share = np.divide(first.weights, weights, out=np.full_like(weights, 0.5), where=weights > 0)
    away = first.means - second.means
    means = second.means + share * away
    spread = share * (1 - share) * away
    covariances = second.covariances + share * (first.covariances - second.covariances) + spread[:, None] * away
    return Gaussians.made(weights, means, covariances)


def log_determinant(covariances: Float[np.ndarray, "dimension dimension component"]) -> Logs:
    """The log |S| of each covariance."""
    dimension, _, count = covariances.shape
    logs = np.empty(count)
    for part in parts(count, dimension):
        work = _workspace(dimension + 1, part.stop - part.start)
        work[:dimension, :dimension] = covariances[:, :, part]
        work[dimension] = 0
        logs[part] = eliminate(work)
    return logs


def log_pairs(first: Gaussians, second: Gaussians) -> Logs:
    """The log of N(μ_i; m_i, S_i + T_i), pair by pair. One side may be a single Gaussian."""
    dimension, count = first.dimension, max(len(first), len(second))
    logs = np.empty(count)
    for part in parts(count, dimension):
        one = first if len(first) == 1 else first.part(part)
        two = second if len(second) == 1 else second.part(part)
        work = _workspace(dimension + 1, part.stop - part.start)
        np.add(one.covariances, two.covariances, out=work[:dimension, :dimension])
        np.subtract(one.means, two.means, out=work[dimension, :dimension])
        work[dimension, dimension] = 0
        logs[part] = _log_normal(work)
    return logs


def log_table(first: Gaussians, second: Gaussians) -> Float[np.ndarray, "first second"]:
    """The log of N(μ_i; m_j, S_i + T_j) for every pair."""
    logs = np.empty((len(first), len(second)))
    for rows, values in log_rows(first, second):
        logs[rows] = values
    return logs


def log_rows(first: Gaussians, second: Gaussians) -> Iterator[tuple[slice, Float[np.ndarray, "some second"]]]:
    """The rows of `log_table`, some at a time, so that a large table need not be held."""
    d, width = first.dimension, len(second)
    tall = max(at_once(d) // max(width, 1), 1)
    for start in range(0, len(first), tall):
        rows = slice(start, min(start + tall, len(first)))
        tall_now = rows.stop - rows.start
        flat = _workspace(d + 1, tall_now * width)
        work = flat.reshape(d + 1, d + 1, tall_now, width)
        for i in range(d):
            for j in range(i + 1):
                np.add(first.covariances[i, j, rows, None], second.covariances[i, j], out=work[i, j])
            np.subtract(first.means[i, rows, None], second.means[i], out=work[d, i])
        work[d, d] = 0
        yield rows, _log_normal(flat).reshape(tall_now, width)


def eliminate(work: Float[np.ndarray, "size size pair"]) -> Logs:
    """Gaussian elimination on all pivots but the last, in place, on the lower triangle.

    From ``[[R, ·], [yᵀ, 0]]`` it computes -yᵀ R⁻¹ y, which it leaves in the last corner, and log |R|, which it returns.
    """
    size, _, count = work.shape
    last = size - 1
    scratch = _buffer("scratch", (2 * last + 1) * count).reshape(2 * last + 1, count)
    factors, products, inverse = scratch[:last], scratch[last:-1], scratch[-1]
    for k in range(last):
        np.divide(1.0, work[k, k], out=inverse)
        np.multiply(work[k + 1 :, k], inverse, out=factors[: last - k])
        for i in range(k + 1, size):
            row, product = work[i, k + 1 : i + 1], products[: i - k]
            np.multiply(work[k + 1 : i + 1, k], factors[i - k - 1], out=product)
            np.subtract(row, product, out=row)
    logs = np.zeros(count)
    for start in range(0, last, 4):  # a logarithm costs more than a product, and four pivots stay within range
        np.copyto(inverse, work[start, start])
        for k in range(start + 1, min(start + 4, last)):
            np.multiply(inverse, work[k, k], out=inverse)
        logs += np.log(inverse, out=inverse)
    return logs


def kl_table(first: Gaussians, second: Gaussians) -> Float[np.ndarray, "first second"]:
    """KL(φ_i ‖ φ_j) = ½ [tr(T_j⁻¹ S_i) + (m_j-μ_i)ᵀ T_j⁻¹ (m_j-μ_i) - d + log |T_j| / |S_i|] for every pair."""
    inverse = np.linalg.inv(np.moveaxis(second.covariances, -1, 0))
    trace = np.einsum("jab,bai->ij", inverse, first.covariances)
    away = first.means[:, :, None] - second.means[:, None, :]
    square = np.einsum("aij,jab,bij->ij", away, inverse, away, optimize=True)
    logs = second.log_determinants - first.log_determinants[:, None]
    return np.maximum(0.5 * (trace + square - first.dimension + logs), 0.0)


def log_self(parts_: Gaussians) -> Logs:
    """The log <φ,φ> = log |4πS|^(-1/2) of each component."""
    return -0.5 * (parts_.dimension * math.log(4 * math.pi) + parts_.log_determinants)


def at_once(dimension: int) -> int:
    """Number of small matrices to work on together; it is small enough for them to stay in cache."""
    return max(min(2**18 // (dimension + 1) ** 2, 8192), 256)


def parts(count: int, dimension: int) -> Iterator[slice]:
    """Slices that divide `count` components into portions of `at_once`."""
    step = at_once(dimension)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _workspace(size: int, count: int) -> np.ndarray:
    """An uninitialised array `[size, size, count]`. The next call reuses its memory."""
    return _buffer("matrices", size * size * count).reshape(size, size, count)


def _buffer(name: str, count: int) -> np.ndarray:
    """Memory that is kept between calls, one block per thread. Fresh pages would cost as much as the arithmetic."""
    kept = getattr(_kept, name, None)
    if kept is None or len(kept) < count:
        kept = np.empty(max(count, 2**18))
        setattr(_kept, name, kept)
    return kept[:count]


def _log_normal(work: np.ndarray) -> np.ndarray:
    dimension = work.shape[0] - 1
    logs = eliminate(work)
    np.subtract(work[dimension, dimension], logs, out=logs)
    logs -= dimension * LOG_2PI
    logs *= 0.5
    return logs
