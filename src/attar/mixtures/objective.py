"""The distance of a mixture g of few Gaussians from a mixture f, as a function of free parameters, with its gradient.

The weights of g are a softmax of α. Each Gaussian has its own frame: an origin t and a lower triangular matrix B. Its
mean is m = t + B u. Its covariance is C Cᵀ with C = B L, where L is lower triangular and the logs of its diagonal are
free parameters. In the frame of the Gaussian itself, u is zero and L is the identity. A unit of any parameter is then a
change of the same size, however small or flat the Gaussian is. An optimiser should begin in these frames.

With a = <f,f>, b = <f,g> = Σ_ij v_i w_j o_ij and c = <g,g> = Σ_kj w_k w_j o_kj, the loss J is one of

    rho    log √(ac) / b         for the angle, the chord and Cauchy-Schwarz
    nise   log (a + c) / 2b      for NISE and Tanimoto
    ise    1 + c/a - 2 b/a       for the ISE

Each loss grows with its distances. The first two keep their gradient if the mixtures hardly overlap.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from attar.mixtures.gaussians import Gaussians, log_self, log_table
from attar.mixtures.overlap import below_diagonal, bordered, log_overlaps, slopes_of_rows
from attar.mixtures.quadratic import Family

Vector = Float[np.ndarray, " parameter"]
Matrices = Float[np.ndarray, "component dimension dimension"]

LEAST = 1e-12
"""Smallest weight that is turned into an α of its own; smaller weights get the same α."""
FAINTEST = 1e-3
"""Smallest part w_j ‖φ_j‖, relative to the largest, that lengthens steps further."""


@dataclass(frozen=True)
class Frames:
    """Origins and units of the parameters: one frame for each Gaussian, or one frame for all."""

    origins: Float[np.ndarray, "frame dimension"]
    """The origins t."""
    factors: Float[np.ndarray, "frame dimension dimension"]
    """The matrices B."""

    @classmethod
    def of(cls, g: Gaussians) -> "Frames":
        """The frames in which each Gaussian has zero mean and unit covariance.

        Raises:
            numpy.linalg.LinAlgError: A covariance is not positive definite.
        """
        return cls(g.means.T, np.linalg.cholesky(g.covariances.transpose(2, 0, 1)))


@dataclass(frozen=True)
class Unpacked:
    """The mixture that a vector of parameters describes."""

    log_weights: Float[np.ndarray, " component"]
    means: Float[np.ndarray, "component dimension"]
    within: Matrices
    """The matrices L."""
    factors: Matrices
    """The matrices C = B L."""

    @property
    def covariances(self) -> Matrices:
        """The covariances C Cᵀ."""
        return self.factors @ self.factors.swapaxes(1, 2)


class Objective:
    """The loss J(g) as a function of a vector: all α, all u, the logs of the diagonals of L, the entries below them.

    Args:
        f: The mixture that g should be close to.
        family: Which of the three losses J is.
        frames: Frames of g's Gaussians.
    """

    def __init__(self, f: Gaussians, family: Family, frames: Frames) -> None:
        self.family, self.frames = family, frames
        self.columns = bordered(f.means, f.covariances)
        with np.errstate(divide="ignore"):
            self.log_v = np.log(f.weights)
        self.log_a, _ = log_sum(log_table(f, f) + self.log_v[:, None] + self.log_v)
        self.diagonal, self.below = (np.arange(f.dimension),) * 2, below_diagonal(f.dimension)

    def vector(self, g: Gaussians) -> Vector:
        """The vector of parameters of a mixture.

        Raises:
            numpy.linalg.LinAlgError: A covariance is not positive definite.
        """
        own, inverse = Frames.of(g), np.linalg.inv(self.frames.factors)
        alphas = np.log(np.maximum(g.weights, LEAST))
        shifts = (inverse @ (own.origins - self.frames.origins)[..., None])[..., 0]
        within = inverse @ own.factors
        return self._joined(alphas, shifts, np.log(within[:, *self.diagonal]), within)

    def units(self, g: Gaussians) -> Vector:
        """Steps of each parameter that have about the same effect on J, in the frames of g itself: 1 / √(w_j ‖φ_j‖).

        The curvature of J is about proportional to a Gaussian's part w_j ‖φ_j‖ in g. The largest part counts as 1.
        """
        parts = np.log(np.maximum(g.weights, LEAST)) + 0.5 * log_self(g)
        sizes = np.maximum(np.exp(parts - parts.max()), FAINTEST) ** -0.5
        d = g.dimension
        each = np.broadcast_to(sizes[:, None, None], (len(g), d, d))
        return self._joined(sizes, each[:, 0], each[:, 0], each)

    def parameters(self, vector: Vector) -> Unpacked:
        """The mixture that a vector of parameters describes."""
        d = self.frames.origins.shape[1]
        n = len(vector) // (1 + d + d * (d + 1) // 2)
        alphas, shifts = vector[:n], vector[n : n + n * d].reshape(n, d, 1)
        within = np.zeros((n, d, d))
        within[:, *self.diagonal] = np.exp(vector[n + n * d : n + 2 * n * d]).reshape(n, d)
        within[:, *self.below] = vector[n + 2 * n * d :].reshape(n, -1)
        means = self.frames.origins + (self.frames.factors @ shifts)[..., 0]
        return Unpacked(alphas - log_sum(alphas)[0], means, within, self.frames.factors @ within)

    def __call__(self, vector: Vector) -> tuple[float, Vector]:
        """The loss J and its gradient.

        A pair's share of b is p_ij = v_i w_j o_ij / b, and its share of c is q_kj. A pair within g has two ends. So
        s_ij = ∂J/∂log b p_ij and s_kj = 2 ∂J/∂log c q_kj, summed over i or k, give ∂J/∂m_j and ∂J/∂(C_j C_jᵀ), and

            ∂J/∂α_j = Σ_i s_ij - w_j Σ_ij s_ij      ∂J/∂u = Bᵀ ∂J/∂m      ∂J/∂L = 2 Bᵀ ∂J/∂(C Cᵀ) C

        The derivative for the log of a diagonal entry of L is the derivative for the entry, times the entry.
        """
        g, n = self.parameters(vector), len(self.log_v)
        rows = bordered(g.means.T, g.covariances.transpose(1, 2, 0))
        logs, work = log_overlaps(rows, np.concatenate([self.columns, rows], axis=-1))
        logs += g.log_weights[:, None]
        logs += np.concatenate([self.log_v, g.log_weights])
        (log_b, p), (log_c, q) = log_sum(logs[:, :n]), log_sum(logs[:, n:])
        value, of_b, of_c = criterion(self.family, self.log_a, log_b, log_c)
        slopes = np.concatenate([of_b * p, 2 * of_c * q], axis=1)
        of_logs = slopes.sum(axis=1)
        of_alphas = of_logs - np.exp(g.log_weights) * of_logs.sum()
        of_means, of_covariances = slopes_of_rows(work, slopes)
        back = self.frames.factors.swapaxes(1, 2)
        of_within = 2 * back @ of_covariances @ g.factors
        of_diagonal = (of_within * g.within)[:, *self.diagonal]
        return value, self._joined(of_alphas, back @ of_means[..., None], of_diagonal, of_within)

    def _joined(self, alphas: np.ndarray, shifts: np.ndarray, diagonals: np.ndarray, matrices: np.ndarray) -> Vector:
        parts = alphas, shifts.ravel(), diagonals.ravel(), matrices[:, *self.below].ravel()
        return np.concatenate(parts)


def criterion(family: Family, log_a: float, log_b: float, log_c: float) -> tuple[float, float, float]:
    """The loss J and its derivatives for log b and log c."""
    if family == "rho":
        return (log_a + log_c) / 2 - log_b, -1.0, 0.5
    if family == "nise":
        return float(np.logaddexp(log_a, log_c)) - log_b - math.log(2), -1.0, float(1 / (1 + np.exp(log_a - log_c)))
    b, c = float(np.exp(log_b - log_a)), float(np.exp(log_c - log_a))
    return 1 + c - 2 * b, -2 * b, c


def log_sum(logs: Float[np.ndarray, "*any"]) -> tuple[float, Float[np.ndarray, "*any"]]:
    """The log of a sum of exponentials, and the share of each exponential in the sum."""
    largest = logs.max()
    shares = np.exp(logs - largest)
    total = shares.sum()
    shares /= total
    return float(largest + np.log(total)), shares
