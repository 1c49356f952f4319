"""A discriminator on the features of a diffusion model: small heads, and the non-saturating losses.

The features are those of a critic for samples under noise, so that real and generated samples overlap. This is the GAN
term of DMD2 (Yin et al., NeurIPS 2024, arXiv:2405.14867); learning it needs real samples, and with few of them the
discriminator memorises: keep its weight at 3e-3 or less.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.seeds import seeded
from attar.core.settings import Range, Settings
from attar.samplers.denoisers import Condition, Denoiser, Noisy, broadcast

Logits = Float[Tensor, " _batch"]
Scalar = Float[Tensor, ""]
GROUPS = 32
SMALLEST = 4
"""Side of a map that is read whole."""
HIDDEN = 256
"""Largest number of hidden units of a head for flat features."""


@dataclass(frozen=True, kw_only=True)
class Adversary(Settings):
    """Settings of the discriminator."""

    discriminator_weight: Annotated[float, Range(0)] = 0.01
    """Weight λ_D of the discriminator's loss beside the critic's own."""
    discriminator_noise: Literal["own", "shared"] = "own"
    """Level and noise at which the discriminator sees generated samples in its own update: a draw of its own, or that
    of the critic's loss, as in FastGen."""


def map_head(channels: int, height: int, width: int, groups: int | None = None) -> nn.Sequential:
    """The head for maps: convolutions of stride 2 down to a side of 4, then one over all that is left, then 1×1.

    That of DMD2 for maps of 8×8 and, with two more strides, of 32×32. Group normalisation on a 1×1 map with a group for
    each channel would give zeros, so a group has four channels or more.

    Args:
        channels: Of the features.
        height: Of the features.
        width: Of the features.
        groups: Number of groups. Default: 32, as far as they divide the channels.
    """
    groups = groups or _groups(channels)
    layers: list[nn.Module] = []
    while min(height, width) > SMALLEST:
        layers += [nn.Conv2d(channels, channels, 4, stride=2, padding=1), nn.GroupNorm(groups, channels), nn.SiLU()]
        height, width = height // 2, width // 2
    layers += [nn.Conv2d(channels, channels, (height, width)), nn.GroupNorm(groups, channels), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))


def flat_head(features: int) -> nn.Sequential:
    """The head for flat features: one hidden layer."""
    hidden = min(features, HIDDEN)
    return nn.Sequential(nn.Linear(features, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, 1))


def head_for(features: Float[Tensor, "batch ..."], generator: torch.Generator) -> nn.Sequential:
    """A fresh head for features like these, flat or maps.

    Args:
        features: Of any samples.
        generator: Draws its weights.
    """
    with seeded(generator):
        return flat_head(features.shape[1]) if features.ndim == 2 else map_head(*features.shape[1:])


def logits(
    critic: Denoiser,
    head: nn.Module,
    samples: Noisy,
    sigma: Float[Tensor, " _batch"],
    noise: Noisy,
    labels: Condition = None,
) -> Logits:
    """c(x + σ ε, σ, labels) by the critic's features: large for real samples.

    Args:
        critic: Has `encoded`.
        head: Reads the features.
        samples: x.
        sigma: σ of each.
        noise: ε.
        labels: The condition.
    """
    return head(critic.encoded(samples + broadcast(sigma, samples) * noise, sigma, labels)).flatten()


def generator_loss(fake: Logits) -> Scalar:
    """Mean softplus(-c) over generated samples."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Logits, fake: Logits) -> Scalar:
    """Mean softplus(c) over generated samples and mean softplus(-c) over real ones.

    Args:
        real: Logits c of real samples.
        fake: Logits of generated samples.
    """
    return F.softplus(fake).mean() + F.softplus(-real).mean()


def _groups(channels: int) -> int:
    most = max(1, min(GROUPS, channels // 4))
    return next(count for count in range(most, 0, -1) if channels % count == 0)
