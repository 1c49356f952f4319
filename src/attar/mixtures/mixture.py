"""A Gaussian mixture: weights, means, and covariances of scikit-learn's four types, with any batch dimensions in front.

All parameters are tensors and stay differentiable. They are float64 by default, because distances of nearly equal
mixtures are differences of nearly equal numbers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.core import store
from attar.core.errors import InputError
from attar.mixtures.convert import from_sklearn, from_torch, to_sklearn, to_torch
from attar.mixtures.files import read_parameters, write_parameters
from attar.mixtures.parameters import COVARIANCES as COVARIANCES
from attar.mixtures.parameters import CovarianceType, Values, as_tensor, check_parameters, check_type


class GaussianMixture:
    """f(x) = Σ_i w_i N(x; μ_i, S_i).

    Attributes:
        weights: `[*batch, n]`, non-negative. The weights of each mixture sum to 1.
        means: `[*batch, n, d]`.
        covariances: `[*batch, n, d, d]` full, `[*batch, d, d]` tied, `[*batch, n, d]` diag, `[*batch, n]` spherical.
        covariance_type: full, tied, diag or spherical.
    """

    def __init__(
        self,
        weights: Values,
        means: Values,
        covariances: Values,
        covariance_type: str = "full",
        *,
        dtype: torch.dtype = torch.float64,
        check: bool = True,
    ) -> None:
        """Make a mixture from tensors, arrays or lists. Gradients of tensors are kept.

        Args:
            weights: Weights, in the shape above.
            means: Means, in the shape above. A plain list of numbers means one dimension.
            covariances: Covariances, in the shape above. In one dimension a list of variances is enough.
            covariance_type: full, tied, diag or spherical.
            dtype: Type to which all numbers are converted.
            check: Whether to check the parameters. Set it off if they are right by construction.

        Raises:
            InputError: Shapes do not fit, a number is NaN, a weight is negative, the weights do not sum to 1, or a
                covariance is not symmetric and positive definite. The message names the component.
        """
        check_type(covariance_type)
        self.weights, self.means, self.covariances = (as_tensor(v, dtype) for v in (weights, means, covariances))
        self.covariance_type = cast(CovarianceType, covariance_type)
        if self.means.ndim == 1 and self.weights.ndim == 1:
            self.means = self.means.unsqueeze(-1)
            if covariance_type == "full" and self.covariances.ndim == 1:
                self.covariances = self.covariances[:, None, None]
            elif covariance_type == "diag" and self.covariances.ndim == 1:
                self.covariances = self.covariances[:, None]
            elif covariance_type == "tied" and self.covariances.ndim == 0:
                self.covariances = self.covariances[None, None]
        if check:
            check_parameters(self.weights, self.means, self.covariances, covariance_type)

    @property
    def n_components(self) -> int:
        """Number of components, n."""
        return int(self.means.shape[-2])

    @property
    def dimension(self) -> int:
        """Dimension of the space, d."""
        return int(self.means.shape[-1])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Batch dimensions in front of the components. A single mixture has none."""
        return tuple(self.weights.shape[:-1])

    @property
    def parameters(self) -> int:
        """Number of stored numbers of one mixture. A symmetric matrix counts its diagonal and what is below it."""
        n, d = self.n_components, self.dimension
        matrix = d * (d + 1) // 2
        return n + n * d + {"full": n * matrix, "tied": matrix, "diag": n * d, "spherical": n}[self.covariance_type]

    @property
    def fingerprint(self) -> str:
        """A digest of the parameters and the covariance type."""
        return store.digest_of(self.tensors(), {"covariance_type": self.covariance_type})

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name."""
        return {"weights": self.weights, "means": self.means, "covariances": self.covariances}

    def __getitem__(self, index: Any) -> "GaussianMixture":
        """One mixture, or several mixtures, of a batch."""
        if not self.batch_shape:
            raise InputError("this is a single mixture, not a batch. Take components with .select([0, 1]).")
        return self._with(self.weights[index], self.means[index], self.covariances[index])

    def select(self, components: Sequence[int] | Tensor) -> "GaussianMixture":
        """Some components of a single mixture. Their weights are scaled to sum to 1."""
        index = torch.as_tensor(components, dtype=torch.long)
        weights = self.weights[index]
        kept = self.covariances if self.covariance_type == "tied" else self.covariances[index]
        return self._with(weights / weights.sum(), self.means[index], kept)

    def full(self) -> "GaussianMixture":
        """The same mixture with a full covariance for every component."""
        shape = (*self.means.shape, self.dimension)
        covariances = self.covariances
        if self.covariance_type == "tied":
            covariances = covariances.unsqueeze(-3).expand(shape)
        elif self.covariance_type == "diag":
            covariances = torch.diag_embed(covariances)
        elif self.covariance_type == "spherical":
            covariances = torch.diag_embed(covariances.unsqueeze(-1).expand(self.means.shape))
        return GaussianMixture(self.weights, self.means, covariances, dtype=self.means.dtype, check=False)

    def plain(self) -> "GaussianMixture":
        """The same numbers in double precision on the CPU, without gradients."""
        tensors = (tensor.detach().cpu().double() for tensor in self.tensors().values())
        weights, means, covariances = tensors
        return GaussianMixture(weights, means, covariances, self.covariance_type, check=False)

    def mean(self) -> Float[Tensor, "*batch dimension"]:
        """The mean of the whole mixture."""
        return torch.einsum("...n,...nd->...d", self.weights, self.means)

    def covariance(self) -> Float[Tensor, "*batch dimension dimension"]:
        """The covariance of the whole mixture, within and between components."""
        away = self.means - self.mean().unsqueeze(-2)
        between = torch.einsum("...n,...nd,...ne->...de", self.weights, away, away)
        return torch.einsum("...n,...nde->...de", self.weights, self.full().covariances) + between

    def affine(self, matrix: Float[Tensor, "image dimension"], shift: Float[Tensor, " image"]) -> Self:
        """The mixture of y = A x + b, with full covariances."""
        full = self.full()
        means = full.means @ matrix.T + shift
        return type(self)(self.weights, means, matrix @ full.covariances @ matrix.T, dtype=means.dtype, check=False)

    def log_prob(self, points: Float[Tensor, "point dimension"]) -> Float[Tensor, "*batch point"]:
        """The log density of a mixture, or of each mixture of a batch, at some points.

        Raises:
            InputError: The points have another dimension.
        """
        if points.shape[-1] != self.dimension:
            raise InputError(f"the points have {points.shape[-1]} dimensions; they must have {self.dimension}.")
        full = self.full()
        factor = torch.linalg.cholesky(full.covariances).unsqueeze(-4)
        away = points.unsqueeze(-2) - full.means.unsqueeze(-3)
        white = torch.linalg.solve_triangular(factor, away.unsqueeze(-1), upper=False).squeeze(-1)
        log_root = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        gauss = -0.5 * (white.square().sum(-1) + self.dimension * float(np.log(2 * np.pi))) - log_root
        return torch.logsumexp(gauss + self.weights.log().unsqueeze(-2), dim=-1)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count dimension"]:
        """Draw `count` points from a single mixture."""
        full = self.full()
        chosen = torch.multinomial(full.weights.detach(), count, replacement=True, generator=generator)
        noise = torch.randn(count, self.dimension, dtype=full.means.dtype, generator=generator)
        factor = torch.linalg.cholesky(full.covariances)[chosen]
        return full.means[chosen] + (factor @ noise.unsqueeze(-1)).squeeze(-1)

    def save(self, path: str | Path) -> None:
        """Write the mixture to a .safetensors or a .json file."""
        write_parameters(Path(path), self.tensors(), self.covariance_type)

    @classmethod
    def load(cls, path: str | Path) -> "GaussianMixture":
        """Read a mixture from a .safetensors or .json file with weights, means, covariances and covariance_type.

        Raises:
            InputError: The file is missing or damaged, or it does not hold a mixture.
        """
        parameters = read_parameters(Path(path))
        try:
            return GaussianMixture(*parameters)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @classmethod
    def from_sklearn(cls, model: Any) -> "GaussianMixture":
        """The mixture of a fitted scikit-learn GaussianMixture or BayesianGaussianMixture.

        Raises:
            InputError: The model is not fitted or is not a mixture.
        """
        return GaussianMixture(*from_sklearn(model))

    def to_sklearn(self, *, bayesian: bool = False) -> Any:
        """A fitted scikit-learn GaussianMixture, or BayesianGaussianMixture, that predicts with these parameters.

        Raises:
            InputError: This is a batch of mixtures.
        """
        if self.batch_shape:
            raise InputError("scikit-learn has no batches of mixtures. Convert the mixtures one by one.")
        weights, means, covariances = (tensor.numpy() for tensor in self.plain().tensors().values())
        return to_sklearn(weights, means, covariances, self.covariance_type, bayesian=bayesian)

    @classmethod
    def from_torch(cls, distribution: torch.distributions.MixtureSameFamily) -> "GaussianMixture":
        """The mixture of a `MixtureSameFamily` of Normal, Independent(Normal) or MultivariateNormal.

        Raises:
            InputError: The components are of another family.
        """
        return GaussianMixture(*from_torch(distribution))

    def to_torch(self) -> torch.distributions.MixtureSameFamily:
        """A `MixtureSameFamily` of MultivariateNormal, or of Independent(Normal) if covariances are diagonal."""
        if self.covariance_type in ("diag", "spherical"):
            variances = self.full().covariances.diagonal(dim1=-2, dim2=-1)
            return to_torch(self.weights, self.means, variances)
        return to_torch(self.weights, self.means, self.full().covariances)

    def _with(self, weights: Tensor, means: Tensor, covariances: Tensor) -> "GaussianMixture":
        kind = self.covariance_type
        return GaussianMixture(weights, means, covariances, kind, dtype=means.dtype, check=False)

    def __repr__(self) -> str:
        batch = f", batch {self.batch_shape}" if self.batch_shape else ""
        return f"GaussianMixture({self.n_components} components, {self.dimension}-D, {self.covariance_type}{batch})"
