"""Score distillation: the gradient that a diffusion model gives for latents z, or for whatever they are rendered from.

SDS moves z to where the model is sure of the prompt. DDS subtracts what the model says of the source with its own
prompt, at the same noise, so that only the difference of the prompts is left: prefer it for editing. VSD subtracts a
second model, which is tuned on the results. All functions take a denoiser D(x, σ, condition) in variance-exploding form
and the noisy latents x = z + σ ε; ε̂ = (x - D) / σ. A variance-preserving x_t = α z + σ_t ε is x with σ = σ_t / α, and
has the same ε and ε̂.

SDS: Ben Poole, Ajay Jain, Jonathan T. Barron and Ben Mildenhall, DreamFusion, ICLR 2023, arXiv:2209.14988. DDS: Amir
Hertz, Kfir Aberman and Daniel Cohen-Or, Delta Denoising Score, ICCV 2023, arXiv:2304.07090. VSD: Zhengyi Wang et al.,
ProlificDreamer, NeurIPS 2023, arXiv:2305.16213.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.precision import at_least_float32
from attar.samplers.denoisers import Condition, Denoising, Noisy, broadcast, guided
from attar.samplers.schedules import Levels

Weighting = Literal["uniform", "sds", "latent-nerf"]
"""w(t): 1; the variance 1 - ᾱ_t of the noise; or √ᾱ_t (1 - ᾱ_t), of latent-nerf and Fantasia3D."""
Mask = Float[Tensor, "batch height width"]
STEPS = 1000
"""Steps in which noise levels are counted."""


def noise_predicted(
    denoiser: Denoising, z: Noisy, sigma: Float[Tensor, " _batch"], noise: Noisy, condition: Condition = None
) -> Noisy:
    """ε̂(z + σ ε, σ, y) = (z + σ ε - D) / σ.

    Args:
        denoiser: D, guided or not.
        z: Clean latents.
        sigma: σ of each.
        noise: ε.
        condition: y of each.
    """
    level = broadcast(sigma, z)
    x = z + level * noise
    return (x - denoiser(x, sigma, condition).to(x)) / level


def weight(sigma: Float[Tensor, " _batch"], weighting: Weighting = "uniform") -> Float[Tensor, " _batch"]:
    """w(t) of noise levels in variance-exploding form, where ᾱ = 1 / (1 + σ²).

    Args:
        sigma: σ.
        weighting: Which w.
    """
    if weighting == "uniform":
        return torch.ones_like(sigma)
    variance = sigma.square() / (1 + sigma.square())
    return variance if weighting == "sds" else variance / (1 + sigma.square()).sqrt()


@torch.no_grad()
def dds_gradient(
    denoiser: Denoising,
    z: Noisy,
    source: Noisy,
    sigma: Float[Tensor, " _batch"],
    noise: Noisy,
    target_condition: Condition,
    source_condition: Condition,
    *,
    guidance: float = 7.5,
    null: Any = None,
    weighting: Weighting = "uniform",
) -> Noisy:
    """w(t) [ε̂_ω(z + σ ε; y_trg) - ε̂_ω(z_src + σ ε; y_src)], with the same ε and t in both (arXiv:2304.07090).

    Its mean is zero where z is the source and the prompts are one, bitwise so.

    Args:
        denoiser: D.
        z: The latents that are edited.
        source: z_src, the latents before the edit.
        sigma: σ of each.
        noise: ε of each.
        target_condition: y_trg.
        source_condition: y_src.
        guidance: ω of classifier-free guidance ε̂_∅ + ω (ε̂_y - ε̂_∅), in both branches.
        null: The condition of ε̂_∅; None is no label.
        weighting: w.
    """
    model, z, source = guided(denoiser, guidance, null), at_least_float32(z), at_least_float32(source)
    sigma, noise = sigma.to(z), noise.to(z)
    wanted = noise_predicted(model, z, sigma, noise, target_condition)
    known = noise_predicted(model, source, sigma, noise, source_condition)
    return broadcast(weight(sigma, weighting), z) * (wanted - known)


@torch.no_grad()
def sds_gradient(
    denoiser: Denoising,
    z: Noisy,
    sigma: Float[Tensor, " _batch"],
    noise: Noisy,
    condition: Condition,
    *,
    guidance: float = 7.5,
    null: Any = None,
    weighting: Weighting = "uniform",
) -> Noisy:
    """w(t) [ε̂_ω(z + σ ε; y) - ε] (arXiv:2209.14988, equation 3).

    threestudio writes the guidance as ε̂_y + ω (ε̂_y - ε̂_∅), one more than ω here.

    Args:
        denoiser: D.
        z: The latents that are changed.
        sigma: σ of each.
        noise: ε of each.
        condition: y.
        guidance: ω of classifier-free guidance.
        null: The condition of ε̂_∅; None is no label.
        weighting: w.
    """
    z = at_least_float32(z)
    sigma, noise = sigma.to(z), noise.to(z)
    wanted = noise_predicted(guided(denoiser, guidance, null), z, sigma, noise, condition)
    return broadcast(weight(sigma, weighting), z) * (wanted - noise)


@torch.no_grad()
def vsd_gradient(
    denoiser: Denoising,
    fake: Denoising,
    z: Noisy,
    sigma: Float[Tensor, " _batch"],
    noise: Noisy,
    condition: Condition,
    *,
    guidance: float = 7.5,
    null: Any = None,
    weighting: Weighting = "sds",
) -> Noisy:
    """w(t) [ε̂_ω(z + σ ε; y) - ε̂_fake(z + σ ε; y)], `fake` being a model of the present results (arXiv:2305.16213).

    Args:
        denoiser: D of the teacher.
        fake: D of the model that is tuned on z as it changes; it has no guidance.
        z: The latents that are changed.
        sigma: σ of each.
        noise: ε of each.
        condition: y.
        guidance: ω of the teacher's guidance.
        null: The condition of ε̂_∅; None is no label.
        weighting: w.
    """
    z = at_least_float32(z)
    sigma, noise = sigma.to(z), noise.to(z)
    wanted = noise_predicted(guided(denoiser, guidance, null), z, sigma, noise, condition)
    given = noise_predicted(fake, z, sigma, noise, condition)
    return broadcast(weight(sigma, weighting), z) * (wanted - given)


def masked(gradient: Noisy, mask: Mask | None) -> Noisy:
    """M ⊙ g: nothing outside the mask is moved. The same as to optimise through M ⊙ z + (1 - M) ⊙ stopgrad(z)."""
    return gradient if mask is None else gradient * mask.unsqueeze(1).to(gradient)


def surrogate(z: Noisy, gradient: Noisy) -> Float[Tensor, ""]:
    """⟨stopgrad(g), z⟩, a loss whose gradient with respect to z is g, so that whatever rendered z learns from g.

    Args:
        z: Latents, with a gradient.
        gradient: g, of the same shape.
    """
    return (gradient.detach() * at_least_float32(z)).sum()


def drawn_steps(count: int, generator: torch.Generator, low: int = 50, high: int = 948) -> Int[Tensor, " _batch"]:
    """Steps t of 1,000, uniform between two ends, both included.

    The released notebook of DDS draws 50 to 948.

    Args:
        count: How many.
        generator: Draws them, on the CPU.
        low: Smallest step.
        high: Largest step.
    """
    check_steps(low, high)
    return torch.randint(low, high + 1, (count,), generator=generator)


def check_steps(low: int, high: int) -> None:
    """Refuse ends of the noise that are none.

    Raises:
        InputError: They do not lie in 0 ≤ low ≤ high < 1,000.
    """
    if not 0 <= low <= high < STEPS:
        raise InputError(f"noise runs from step {low} to {high}; give 0 ≤ noise_from ≤ noise_to < {STEPS}.")


def levels_at(steps: Int[Tensor, " _batch"], descending: Levels) -> Float[Tensor, " _batch"]:
    """σ of steps t of a table of 1,000 levels, which descends as everywhere in `attar.samplers`."""
    return descending.flip(0).to(steps.device)[steps]
