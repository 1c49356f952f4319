"""Samplers: Euler and Heun along the probability-flow ODE, few steps with fresh noise, DDIM and ancestral sampling.

All take a denoiser, noise and levels that descend, and keep their state in float64. Karras et al., arXiv:2206.00364,
algorithms 1 and 2; Song et al., Consistency Models, arXiv:2303.01469, algorithm 1; Song, Meng and Ermon, Denoising
Diffusion Implicit Models, ICLR 2021, arXiv:2010.02502.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.precision import widest
from attar.core.settings import Range, Settings
from attar.samplers.denoisers import Condition, Denoising, Noisy, broadcast
from attar.samplers.schedules import VP, Levels

Noise = Callable[[], Tensor]
"""Standard normal noise of the shape of the samples, new with each call."""


@dataclass(frozen=True, kw_only=True)
class Churn(Settings):
    """Noise that EDM's stochastic sampler adds before its steps."""

    churn: Annotated[float, Range(0)] = 0.0
    """S_churn: noise that is added in all, as a multiple of the present noise. 0: none."""
    churn_min: Annotated[float, Range(0)] = 0.0
    """S_min: smallest noise level at which noise is added."""
    churn_max: Annotated[float, Range(0)] | None = None
    """S_max: largest noise level at which noise is added. Default: no limit."""
    churn_noise: Annotated[float, Range(0)] = 1.0
    """S_noise: standard deviation of the added noise."""

    def gamma(self, sigma: float, steps: int) -> float:
        """γ of a level: the share by which it is raised before the step."""
        high = math.inf if self.churn_max is None else self.churn_max
        return min(self.churn / steps, math.sqrt(2) - 1) if self.churn_min <= sigma <= high else 0.0


def noise_from(generator: torch.Generator, x: Tensor) -> Noise:
    """Noise for samples like `x`, drawn on the CPU in float32, so that it is the same on every device."""
    return lambda: torch.randn(x.shape, generator=generator).to(x.device, x.dtype)


@torch.no_grad()
def heun(
    denoiser: Denoising,
    noise: Noisy,
    levels: Levels,
    labels: Condition = None,
    *,
    churn: Churn | None = None,
    draw: Noise | None = None,
) -> Noisy:
    """Heun's method from σ_max z down to σ = 0, in 2n - 1 calls of the denoiser for n levels.

    Args:
        denoiser: D(x, σ, labels).
        noise: Standard normal z.
        levels: Descending levels above 0.
        labels: The condition.
        churn: Noise that is added before each step. Default: none.
        draw: Draws it; needed if there is some.
    """
    x, ends = _started(noise, levels)
    for index, (sigma, following) in enumerate(pairwise(ends)):
        if churn is not None and draw is not None:
            x, sigma = _churned(x, sigma, churn, len(levels), draw)
        step = heun_step if index < len(levels) - 1 else euler_step
        x = step(denoiser, x, sigma, following, labels)
    return x


@torch.no_grad()
def euler(denoiser: Denoising, noise: Noisy, levels: Levels, labels: Condition = None, *, floor: float = 0.0) -> Noisy:
    """Euler's method from σ_max z down to σ = 0, in n calls of the denoiser: DDIM in variance-exploding form.

    Args:
        denoiser: D(x, σ, labels).
        noise: Standard normal z.
        levels: Descending levels above the floor.
        labels: The condition.
        floor: The level at which it ends: 0, or σ_min as in released code of progressive distillation.
    """
    x, ends = _started(noise, levels, floor)
    for sigma, following in pairwise(ends):
        x = euler_step(denoiser, x, sigma, following, labels)
    return x


def euler_step(denoiser: Denoising, x: Noisy, sigma: Tensor, following: Tensor, labels: Condition = None) -> Noisy:
    """A step of Euler's method to a smaller level: x + (σ' - σ) (x - D(x, σ)) / σ.

    Args:
        denoiser: D(x, σ, labels).
        x: Samples at σ.
        sigma: σ > 0, one level or one of each sample.
        following: σ', likewise.
        labels: The condition.
    """
    near, after = broadcast(sigma, x), broadcast(following, x)
    return x + (after - near) * ((x - denoiser(x, sigma, labels)) / near)


def heun_step(denoiser: Denoising, x: Noisy, sigma: Tensor, following: Tensor, labels: Condition = None) -> Noisy:
    """A step of Heun's method: that of Euler, with the mean of the slopes at its two ends.

    Args:
        denoiser: D(x, σ, labels).
        x: Samples at σ.
        sigma: σ > 0, one level or one of each sample.
        following: σ' > 0, likewise.
        labels: The condition.
    """
    near, after = broadcast(sigma, x), broadcast(following, x)
    slope = (x - denoiser(x, sigma, labels)) / near
    reached = x + (after - near) * slope
    corrected = (reached - denoiser(reached, following, labels)) / after
    return x + (after - near) * (slope + corrected) / 2


@torch.no_grad()
def few_step(
    denoiser: Denoising,
    noise: Noisy,
    levels: Levels,
    labels: Condition = None,
    *,
    draw: Noise | None = None,
    floor: float = 0.0,
    clamp: bool = False,
) -> Noisy:
    """x0 = G(σ_1 z, σ_1), then for each further level x0 = G(x0 + √(σ² - floor²) ε, σ) with fresh noise ε.

    Models that are given noise alone begin from z / α: see `begun`.

    Args:
        denoiser: G(x, σ, labels).
        noise: Standard normal z.
        levels: Descending levels above 0, one for each call.
        labels: The condition.
        draw: Draws fresh noise; needed for more than one level.
        floor: σ_min of consistency models, whose samples still have that noise; 0 of DMD2.
        clamp: Whether each x0 is cut to [-1, 1], as in the released code of consistency models.
    """
    x = found = begun(denoiser, noise.to(widest(noise.device)), levels[0])
    for index, sigma in enumerate(levels.to(x)):
        if index:
            assert draw is not None, "more than one level needs fresh noise"
            x = found + (sigma.square() - floor**2).clamp(min=0).sqrt() * draw().to(x)
        found = denoiser(x, sigma, labels)
        found = found.clamp(-1, 1) if clamp else found
    return found


@torch.no_grad()
def ddim(
    denoiser: Denoising,
    noise: Noisy,
    schedule: VP,
    steps: Int[Tensor, " step"],
    labels: Condition = None,
    *,
    eta: float = 0.0,
    draw: Noise | None = None,
) -> Noisy:
    """DDIM along steps t_1 > t_2 > … of a variance-preserving schedule, and to x0 after the last; η = 1 is ancestral.

    Args:
        denoiser: D in variance-exploding form: it is given x_t / α_t and σ_t / α_t.
        noise: Standard normal, the start x_{t_1}.
        schedule: α_t and σ_t.
        steps: Step numbers, descending.
        labels: The condition.
        eta: η, the share of fresh noise.
        draw: Draws fresh noise; needed if η > 0.
    """
    x = noise.to(widest(noise.device))
    for index, t in enumerate(steps):
        alpha, sigma = schedule.alpha(t).to(x), schedule.sigma(t).to(x)
        clean = denoiser(x / alpha, sigma / alpha, labels)
        if index == len(steps) - 1:
            return clean
        later = steps[index + 1]
        fresh = draw().to(x) if draw is not None and eta else None
        x = ddim_step(x, clean, (alpha, sigma), (schedule.alpha(later).to(x), schedule.sigma(later).to(x)), eta, fresh)
    return x


def ddim_step(
    x: Noisy,
    clean: Noisy,
    now: tuple[Tensor, Tensor],
    later: tuple[Tensor, Tensor],
    eta: float = 0.0,
    fresh: Tensor | None = None,
) -> Noisy:
    """x_s = α_s x0 + √(σ_s² - η²τ²) ε + η τ z with τ² = σ_s²/σ_t² (1 - α_t²/α_s²) (arXiv:2010.02502, equation 12).

    Args:
        x: x_t.
        clean: x0 as predicted there.
        now: α_t and σ_t.
        later: α_s and σ_s.
        eta: η.
        fresh: z; needed if η > 0.
    """
    (alpha, sigma), (alpha_later, sigma_later) = now, later
    epsilon = (x - alpha * clean) / sigma
    spread = (sigma_later.square() / sigma.square() * (1 - (alpha / alpha_later).square())).clamp(min=0)
    found = alpha_later * clean + (sigma_later.square() - eta**2 * spread).clamp(min=0).sqrt() * epsilon
    return found if fresh is None else found + eta * spread.sqrt() * fresh


def begun(denoiser: Denoising, noise: Noisy, sigma: Tensor) -> Noisy:
    """What few-step sampling begins from: σ z, or z / α for a variance-preserving model that is given noise alone.

    Args:
        denoiser: Says by `pure` whether it is such a model, with α² (1 + σ²) = 1.
        noise: Standard normal z.
        sigma: The first level.
    """
    sigma = sigma.to(noise)
    return noise * ((1 + sigma.square()).sqrt() if getattr(denoiser, "pure", False) else sigma)


def _started(noise: Noisy, levels: Levels, floor: float = 0.0) -> tuple[Noisy, Float[Tensor, " _end"]]:
    """σ_max z in float64 where there is such a thing, and the levels with 0, or another floor, at their end."""
    exact = widest(noise.device)
    ends = torch.cat([levels.double(), levels.new_full((1,), floor, dtype=torch.float64)]).to(noise.device, exact)
    return noise.to(exact) * ends[0], ends


def _churned(x: Noisy, sigma: Tensor, churn: Churn, steps: int, draw: Noise) -> tuple[Noisy, Tensor]:
    """Samples and level with noise added; noise is drawn in every step, so that settings do not shift later draws."""
    fresh = draw().to(x)
    raised = sigma * (1 + churn.gamma(float(sigma), steps))
    return x + (raised.square() - sigma.square()).sqrt() * churn.churn_noise * fresh, raised
