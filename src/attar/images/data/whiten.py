"""The transform of pixels to network input, and back: channel statistics, then optional ZCA whitening.

Both are fitted once on real training images and stored with every artefact.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from attar.images.data.pixels import Batch

Images = Float[Tensor, "batch channel height width"]


@dataclass(frozen=True)
class Whitening:
    """ZCA: x' = (x - μ) T with T = U diag((λ + ε)^(-1/2)) Uᵀ over the covariance of flattened, normalised images.

    The papers differ: MTT whitens raw pixels, DataDAM normalised ones, and the same ε gives different filters. The
    order here is DataDAM's.
    """

    mean: Float[Tensor, " pixel"]
    forward_matrix: Float[Tensor, "pixel pixel"]
    inverse_matrix: Float[Tensor, "pixel pixel"]

    def forward(self, images: Images) -> Images:
        """Whiten images."""
        flat = images.flatten(1) - self.mean.to(images)
        return (flat @ self.forward_matrix.to(images)).view_as(images)

    def inverse(self, images: Images) -> Images:
        """Undo `forward`."""
        flat = images.flatten(1) @ self.inverse_matrix.to(images)
        return (flat + self.mean.to(images)).view_as(images)


def fit_zca(images: Images, epsilon: float = 0.1) -> Whitening:
    """Fit ZCA whitening in float64. ε is added to the eigenvalues of the covariance."""
    flat = images.flatten(1).double()
    mean = flat.mean(dim=0)
    centred = flat - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / (len(flat) - 1))
    scale = (values.clamp_min(0) + epsilon).sqrt()
    forward, inverse = vectors / scale @ vectors.T, vectors * scale @ vectors.T
    dtype = images.dtype
    return Whitening(mean.to(dtype), forward.to(dtype), inverse.to(dtype))


@dataclass(frozen=True)
class Transform:
    """Pixels to network input: scaled to [0, 1], normalised by channel mean and standard deviation, then whitened."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    whitening: Whitening | None = None

    def forward(self, pixels: Batch) -> Images:
        """The network input of uint8 pixels, or of float pixels in [0, 1]."""
        mean, std = self._statistics(pixels)
        scale = 255.0 if pixels.dtype == torch.uint8 else 1.0
        images = (pixels.float() - scale * mean) / (scale * std)
        return self.whitening.forward(images) if self.whitening else images

    def inverse(self, images: Images) -> Images:
        """The float pixels of network input, not clipped to [0, 1]."""
        if self.whitening:
            images = self.whitening.inverse(images)
        mean, std = self._statistics(images)
        return images * std + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, len(self.mean), 1, 1)
        return (
            torch.tensor(self.mean, device=like.device).view(shape),
            torch.tensor(self.std, device=like.device).view(shape),
        )
