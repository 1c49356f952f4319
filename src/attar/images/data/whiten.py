"""The transform of pixels to network input, and back: channel statistics, then optional ZCA whitening.

Both are fitted once on real training images and stored with every artefact.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.core.sending import sent
from attar.images.data.pixels import Batch

Images = Float[Tensor, "batch channel height width"]

SMALLEST = 1e-6
"""Smallest ε. Far below it, whitened values in 32 bits are rounding errors, and at last not numbers."""
ZERO = 1e-13
"""Share of the largest eigenvalue below which another is zero."""


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


@dataclass(frozen=True)
class ThinWhitening:
    """The same ZCA for fewer images than pixels, without a matrix of pixels × pixels.

    The covariance has at most as many eigenvalues above zero as images. On all other directions T is a multiple of the
    identity: T = ε^(-1/2) I + V diag((λ + ε)^(-1/2) - ε^(-1/2)) Vᵀ, with the k eigenvectors V whose λ are not zero.
    """

    mean: Float[Tensor, " pixel"]
    vectors: Float[Tensor, "pixel k"]
    forward_scales: Float[Tensor, " k"]
    """(λ + ε)^(-1/2) - ε^(-1/2)."""
    inverse_scales: Float[Tensor, " k"]
    """(λ + ε)^(1/2) - ε^(1/2)."""
    epsilon: Float[Tensor, ""]

    def forward(self, images: Images) -> Images:
        """Whiten images."""
        flat = images.flatten(1) - self.mean.to(images)
        return self._applied(flat, self.epsilon.to(images).rsqrt(), self.forward_scales).view_as(images)

    def inverse(self, images: Images) -> Images:
        """Undo `forward`."""
        flat = self._applied(images.flatten(1), self.epsilon.to(images).sqrt(), self.inverse_scales)
        return (flat + self.mean.to(images)).view_as(images)

    def _applied(self, flat: Tensor, scale: Tensor, scales: Tensor) -> Tensor:
        vectors = self.vectors.to(flat)
        return scale * flat + (flat @ vectors * scales.to(flat)) @ vectors.T


def fit_zca(images: Images, epsilon: float = 0.1) -> Whitening | ThinWhitening:
    """Fit ZCA whitening in float64. ε is added to the eigenvalues of the covariance.

    Raises:
        InputError: ε is outside the range that 32 bits can whiten with, or the memory is too small.
    """
    if not SMALLEST <= epsilon <= 1 / SMALLEST:
        raise InputError(f"epsilon is {epsilon}; whitening needs a number from 1e-6 to 1e6, such as 0.1.")
    count, pixels = len(images), images[0].numel()
    thin = count < pixels
    _check_room(count, pixels, thin=thin)
    flat = images.flatten(1).double()
    mean = flat.mean(dim=0)
    centred = flat - mean
    dtype = images.dtype
    if thin:
        return _fit_thin(centred, mean, epsilon, dtype)
    values, vectors = torch.linalg.eigh(centred.T @ centred / (len(flat) - 1))
    scale = (values.clamp_min(0) + epsilon).sqrt()
    forward, inverse = vectors / scale @ vectors.T, vectors * scale @ vectors.T
    return Whitening(mean.to(dtype), forward.to(dtype), inverse.to(dtype))


def _fit_thin(
    centred: Float[Tensor, "image pixel"], mean: Float[Tensor, " pixel"], epsilon: float, dtype: torch.dtype
) -> ThinWhitening:
    """Fit by the eigenvectors U of the images' Gram matrix: V = Xᵀ U, each of length one."""
    values, left = torch.linalg.eigh(centred @ centred.T / max(len(centred) - 1, 1))
    kept = values > ZERO * values.max().clamp_min(0)
    values, vectors = values[kept], centred.T @ left[:, kept]
    vectors = vectors / vectors.norm(dim=0)
    scale, floor = (values + epsilon).sqrt(), math.sqrt(epsilon)
    return ThinWhitening(
        mean.to(dtype),
        vectors.to(dtype),
        (1 / scale - 1 / floor).to(dtype),
        (scale - floor).to(dtype),
        torch.tensor(epsilon, dtype=dtype),
    )


def whitening_of(tensors: Mapping[str, Tensor]) -> Whitening | ThinWhitening:
    """The whitening whose tensors were stored by name."""
    return (Whitening if "forward_matrix" in tensors else ThinWhitening)(**tensors)


def _check_room(images: int, pixels: int, *, thin: bool) -> None:
    """Check that the memory is large enough for fitting: several matrices in double precision.

    Raises:
        InputError: It is not.
    """
    needed = 8 * (4 * images * pixels + 2 * images**2 if thin else 4 * pixels**2 + 2 * images * pixels)
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"ZCA whitening of {images:,} images of {pixels:,} values takes {needed / 1e9:.1f} GB of memory, but only "
            f"{free / 1e9:.1f} GB are free. Give a smaller --size, or do not set --zca."
        )


def free_memory() -> int | None:
    """The number of bytes that a process can still have on this machine; None if it is not known."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        return None


@dataclass(frozen=True)
class Transform:
    """Pixels to network input: scaled to [0, 1], normalised by channel mean and standard deviation, then whitened."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    whitening: Whitening | ThinWhitening | None = None

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

    def __getstate__(self) -> dict[str, Any]:
        """What travels to another process: all but copies in a GPU's memory."""
        return {name: value for name, value in vars(self).items() if name != "_copies"}

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        if like.device.type == "cpu":
            return self._made()
        if str(like.device) not in self._copies:
            with torch.inference_mode(False):  # they are used later in passes with a gradient
                self._copies[str(like.device)] = sent(self._made(), like.device)
        return self._copies[str(like.device)]

    def _made(self) -> tuple[Tensor, Tensor]:
        shape = (1, len(self.mean), 1, 1)
        return torch.tensor(self.mean).view(shape), torch.tensor(self.std).view(shape)

    @cached_property
    def _copies(self) -> dict[str, tuple[Tensor, Tensor]]:
        return {}
