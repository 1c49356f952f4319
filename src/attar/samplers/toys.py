"""Distributions in the plane: a ring and a grid of Gaussians, moons, a pinwheel and a checkerboard.

The two mixtures have known modes and an exact denoiser, so that a sampler can be held against the truth.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.seeds import derived_seed
from attar.samplers.sources import Law, Source

Points = Float[Tensor, "point 2"]
Modes = Float[Tensor, "mode 2"]
Drawn = tuple[Points, Tensor]
STD = 0.05
"""Standard deviation of a mode of ring and grid."""


def ring_modes(count: int = 8, radius: float = 1.0) -> Modes:
    """Means at equal angles on a circle."""
    angles = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    return radius * torch.stack([angles.cos(), angles.sin()], dim=1)


def grid_modes(side: int = 5, extent: float = 1.0) -> Modes:
    """Means on a square grid between -extent and extent."""
    places = torch.linspace(-extent, extent, side, dtype=torch.float64)
    return torch.cartesian_prod(places, places)


def gaussians(modes: Modes, std: float = STD) -> Law:
    """A mixture of equal Gaussians around these means; the label of a point is its mode."""

    def draw(n: int, generator: torch.Generator) -> Drawn:
        labels = torch.randint(len(modes), (n,), generator=generator)
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return modes[labels] + std * noise, labels

    return Law(draw, modes, std)


def exact_denoiser(x: Float[Tensor, "point 2"], sigma: Tensor, modes: Modes, std: float = STD) -> Points:
    """E[x0 | x] for points of a mixture of equal Gaussians under noise σ.

    Args:
        x: Noisy points.
        sigma: Noise levels, a number or one for each point.
        modes: Means.
        std: Standard deviation s of each mode.
    """
    variance = std**2 + sigma.to(x).reshape(-1, 1) ** 2
    share = (-torch.cdist(x, modes.to(x)).square() / (2 * variance)).softmax(dim=1)
    means = share @ modes.to(x)
    return means + std**2 / variance * (x - means)


def log_density(x: Float[Tensor, "point 2"], modes: Modes, std: float = STD, sigma: float = 0.0) -> Tensor:
    """The exact log density of such a mixture, under noise σ.

    Args:
        x: Points in the plane.
        modes: The centres of the Gaussians.
        std: The standard deviation of each.
        sigma: σ of the noise.
    """
    variance = std**2 + sigma**2
    exponents = -torch.cdist(x, modes.to(x)).square() / (2 * variance)
    return exponents.logsumexp(dim=1) - math.log(len(modes) * 2 * math.pi * variance)


def _moons(n: int, generator: torch.Generator) -> Drawn:
    labels = torch.randint(2, (n,), generator=generator)
    angle = math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
    side = 1 - 2 * labels.double()
    points = torch.stack([side * angle.cos() + labels - 0.5, side * angle.sin() + 0.5 * labels - 0.25], dim=1)
    return points + STD * torch.randn(n, 2, generator=generator, dtype=torch.float64), labels


def _pinwheel(n: int, generator: torch.Generator, arms: int = 5, rate: float = 0.25) -> Drawn:
    labels = torch.randint(arms, (n,), generator=generator)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    radius, across = 1 + 0.3 * noise[:, 0], 0.1 * noise[:, 1]
    angle = 2 * math.pi * labels / arms + rate * radius.exp()
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([radius * cos - across * sin, radius * sin + across * cos], dim=1), labels


def _checkerboard(n: int, generator: torch.Generator) -> Drawn:
    across = torch.randint(4, (n,), generator=generator)
    up = 2 * torch.randint(2, (n,), generator=generator) + across % 2
    inside = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    corners = torch.stack([across, up], dim=1).double()
    return (corners + inside) / 2 - 1, across * 2 + up // 2


TOYS: dict[str, Callable[[], Law]] = {
    "ring": lambda: gaussians(ring_modes()),
    "grid": lambda: gaussians(grid_modes()),
    "moons": lambda: Law(_moons),
    "pinwheel": lambda: Law(_pinwheel),
    "checkerboard": lambda: Law(_checkerboard),
}
"""The distributions by name."""


def drawn(name: str, points: int, seed: int = 0) -> Source:
    """Points of a distribution, a fifth of them for testing.

    Args:
        name: One of `TOYS`.
        points: How many in all.
        seed: Of the draw.
    """
    law = TOYS[name]()
    generator = torch.Generator().manual_seed(derived_seed(seed, f"points of {name}"))
    values, labels = law.draw(points, generator)
    cut = points - points // 5
    classes = tuple(f"{one}" for one in range(int(labels.max()) + 1))
    parts = (values[:cut].float(), values[cut:].float())
    return Source.of_tensors(*parts, labels=(labels[:cut], labels[cut:]), classes=classes, name=name, law=law)
