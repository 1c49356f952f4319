"""Denoisers D(x, σ, labels) → x0: EDM's preconditioning of a network, the boundary form of students, and guidance.

Karras, Aittala, Aila and Laine, Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022,
arXiv:2206.00364, table 1; the boundary form is that of Song et al., Consistency Models, ICML 2023, arXiv:2303.01469,
appendix C.
"""

import copy
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Noisy = Float[Tensor, "batch ..."]
Condition = Int[Tensor, " _batch"] | Float[Tensor, "batch ..."] | None
"""Class numbers, an embedding of a text, or nothing."""


@runtime_checkable
class Denoising(Protocol):
    """Whatever predicts clean samples: a module or a function."""

    def __call__(self, x: Noisy, sigma: Tensor, labels: Condition = None) -> Noisy:
        """E[x0 | x = x0 + σ ε] for each sample.

        Args:
            x: Noisy samples, variance exploding.
            sigma: Noise levels, a number or one for each sample.
            labels: The condition.
        """


class Denoiser(nn.Module):
    """D(x, σ) = c_skip x + c_out F(c_in x, ln(σ) / 4) of a network F.

    Args:
        network: F(x, noise, labels), with `encoded` if a discriminator reads its features.
        sigma_data: Standard deviation of the data.
        boundary: Smallest level σ_min at which D(x, σ_min) = x exactly, the form of students; None is EDM's form.
    """

    def __init__(self, network: nn.Module, sigma_data: float, boundary: float | None = None) -> None:
        super().__init__()
        self.network, self.sigma_data, self.boundary = network, float(sigma_data), boundary
        self.multiplies: torch.dtype | None = None
        """Type in which the network multiplies, under autocast; None for that of its parameters."""

    def forward(self, x: Noisy, sigma: Tensor, labels: Condition = None) -> Noisy:
        """The clean samples, in the precision of `x`; the network works in that of its parameters."""
        skip, out, _ = self.scalings(sigma.to(x))
        return broadcast(skip, x) * x + broadcast(out, x) * self._run(self.network, x, sigma, labels).to(x)

    def encoded(self, x: Noisy, sigma: Tensor, labels: Condition = None) -> Float[Tensor, "batch ..."]:
        """The network's features for noisy samples."""
        encoded: Any = self.network.encoded
        return self._run(encoded, x, sigma, labels).float()

    def scalings(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c_skip, c_out and c_in."""
        return scalings(sigma, self.sigma_data, self.boundary)

    def _run(self, function: Callable[..., Tensor], x: Noisy, sigma: Tensor, labels: Condition) -> Tensor:
        kind = next(iter(self.network.parameters())).dtype
        scaled = (broadcast(self.scalings(sigma.to(x))[2], x) * x).to(kind)
        noise = (sigma.to(x).log() / 4).expand(len(x)).to(kind)
        on = self.multiplies is not None
        with torch.autocast(x.device.type, dtype=self.multiplies, enabled=on):
            return function(scaled, noise, labels)

    def student(self, sigma_min: float) -> "Denoiser":
        """A copy in the boundary form, whose parameters learn."""
        made = Denoiser(copy.deepcopy(self.network).requires_grad_(True), self.sigma_data, sigma_min)
        made.multiplies = self.multiplies
        return made

    def thawed(self) -> "Denoiser":
        """A copy of the same form, whose parameters learn."""
        return copy.deepcopy(self).requires_grad_(True)


def scalings(sigma: Tensor, sigma_data: float, boundary: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """c_skip, c_out and c_in of a noise level.

    Args:
        sigma: Levels.
        sigma_data: Standard deviation of the data.
        boundary: σ_min of the boundary form; None for EDM's form, which is the boundary form at σ_min = 0.
    """
    low = 0.0 if boundary is None else boundary
    total = sigma.square() + sigma_data**2
    skip = sigma_data**2 / ((sigma - low).square() + sigma_data**2)
    return skip, (sigma - low) * sigma_data / total.sqrt(), total.rsqrt()


def broadcast(numbers: Tensor, x: Noisy) -> Tensor:
    """Numbers for each sample, or one for all, in a shape that multiplies samples."""
    return numbers.reshape(-1, *[1] * (x.ndim - 1))


def guided(denoiser: Denoising, scale: float, null: Any = None) -> Denoising:
    """Classifier-free guidance D_∅ + w (D_y - D_∅), in any of ε, v and x0 the same.

    Ho and Salimans, Classifier-Free Diffusion Guidance, arXiv:2207.12598.

    Args:
        denoiser: What is guided.
        scale: w. 1 is no guidance, and 0 no condition.
        null: The condition of D_∅, one for all samples or one for each; None is no label.
    """
    if scale == 1:
        return denoiser

    def guide(x: Noisy, sigma: Tensor, labels: Condition = None) -> Noisy:
        nothing = null.to(x.device).expand(len(x), *null.shape[1:]) if isinstance(null, Tensor) else null
        free = denoiser(x, sigma, nothing)
        return free + scale * (denoiser(x, sigma, labels) - free)

    return guide
