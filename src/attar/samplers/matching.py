"""Matching the distribution of a generator to that of a teacher: gradient, losses, and the limits SDS and VSD.

The gradient of KL(p_generator,σ ‖ p_teacher,σ) is a difference of scores at noisy samples, and a difference of scores
is one of predictions of the clean sample: s = (α μ - x_t) / σ². A critic, trained on the generator's samples, predicts
for the generator what the teacher predicts for the data. Notation: x_t = α x + σ ε; α is 1 where it is not given.

Yin, Gharbi, Park, Zhang, Shechtman, Durand and Freeman, Improved Distribution Matching Distillation for Fast Image
Synthesis, NeurIPS 2024, arXiv:2405.14867; Yin et al., One-step Diffusion with Distribution Matching Distillation, CVPR
2024, arXiv:2311.18828. SDS: Poole, Jain, Barron and Mildenhall, DreamFusion, ICLR 2023, arXiv:2209.14988. VSD: Wang et
al., ProlificDreamer, NeurIPS 2023, arXiv:2305.16213.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.precision import at_least_float32
from attar.samplers.denoisers import Condition, Denoising, Noisy, broadcast
from attar.samplers.sampling import Noise, begun, few_step
from attar.samplers.schedules import Levels

Scalar = Float[Tensor, ""]
Each = Float[Tensor, "..."]
"""A number for all samples, or one for each."""
Weighting = Literal["edm", "epsilon", "none"]
"""Weights of the critic's squared error in x0."""
Distilling = Literal["sds", "uniform", "fantasia3d"]
"""Weights w(t) of score distillation."""

FLOOR = 1e-6
"""Added to the mean distance of a sample by which its gradient is divided (as in FastGen). The released code divides
without it, by which a sample that equals the teacher's prediction gets the largest finite number."""


def matching_gradient(samples: Noisy, real: Noisy, fake: Noisy, floor: float = FLOOR) -> Noisy:
    """The gradient g = (μ_fake - μ_real) / (mean |x - μ_real| + floor), with the mean over the values of a sample.

    With `fake` = `samples` it is the gradient of SDS up to the weight of each sample, and with a critic that of VSD.

    Args:
        samples: x, the generator's samples.
        real: μ_real, the teacher's prediction for noisy `samples`.
        fake: μ_fake, the critic's.
        floor: What the distance is raised by.
    """
    samples, real, fake = (at_least_float32(one) for one in (samples, real, fake))
    distance = (samples - real).abs().flatten(1).mean(dim=1)
    return ((fake - real) / broadcast(distance + floor, samples)).detach()


def surrogate_loss(samples: Noisy, gradient: Noisy) -> Scalar:
    """½ mean (x - stopgrad(x - g))², whose gradient in x is g / numel exactly, and whose value is ½ mean g².

    Args:
        samples: x, with a gradient.
        gradient: g, of the same shape.
    """
    at = at_least_float32(samples)
    # Written so that x - x cancels before g is added: in the order of the formula g loses digits to x.
    return 0.5 * ((at - at.detach()) + gradient.detach()).square().mean()


def score_gradient(
    samples: Noisy, real: Noisy, fake: Noisy, alpha: Each, sigma: Each, weighting: Distilling = "sds"
) -> Noisy:
    """w(t) (ε_real - ε_fake) = w(t) α (μ_fake - μ_real) / σ, without DMD's normaliser.

    With `fake` = `samples` this is SDS, w(t) (ε̂ - ε); with the prediction for another text it is DDS; with that of a
    critic VSD.

    Args:
        samples: x.
        real: The teacher's prediction of x0.
        fake: What it is held against.
        alpha: α of each sample.
        sigma: σ of each sample, with `alpha` as in x_t = α x + σ ε.
        weighting: w: σ² (sds, as in DreamFusion and threestudio), 1 (uniform), or α σ² (fantasia3d, latent-nerf).
    """
    wide = at_least_float32(samples)
    alpha, sigma = alpha.to(wide), sigma.to(wide)
    weight = {"sds": sigma.square(), "uniform": torch.ones_like(sigma), "fantasia3d": alpha * sigma.square()}[weighting]
    return (broadcast(weight * alpha / sigma, wide) * (fake.to(wide) - real.to(wide))).detach()


def critic_loss(
    found: Noisy, clean: Noisy, sigma: Float[Tensor, " _batch"], sigma_data: float = 0.5, weighting: Weighting = "edm"
) -> Scalar:
    """Mean over samples and values of w(σ) (μ_fake(x + σ ε) - x)².

    Args:
        found: μ_fake(x + σ ε), the critic's prediction.
        clean: x, the generator's samples, without a gradient.
        sigma: σ of each, in variance-exploding form.
        sigma_data: σ_d.
        weighting: w: σ⁻² + σ_d⁻² (edm), σ⁻² (epsilon, the plain squared error of predicted noise), or 1 (none, as in
            FastGen).
    """
    found, clean = at_least_float32(found), at_least_float32(clean)
    inverse = sigma.to(found).square().reciprocal()
    weight = {"edm": inverse + sigma_data**-2, "epsilon": inverse, "none": torch.ones_like(inverse)}[weighting]
    return (broadcast(weight, found) * (found - clean).square()).mean()


def simulated(
    student: Denoising,
    noise: Noisy,
    levels: Levels,
    index: int,
    labels: Condition = None,
    *,
    start: Noisy | None = None,
    draw: Noise | None = None,
) -> tuple[Noisy, Float[Tensor, ""]]:
    """Backward simulation: what a few-step student is given at a level, and that level, made by the student alone.

    x_1 = σ_1 ε, or ε / α (see `begun`); for a later level the student samples through those before it, from other
    noise, and ε is added to its last x0. No gradient goes through those steps.

    Args:
        student: G(x, σ, labels).
        noise: ε.
        levels: Descending levels of the few-step sampler.
        index: Which of them, from 0.
        labels: The condition.
        start: Noise that the simulation begins from; needed for `index` > 0.
        draw: Draws fresh noise between its steps; needed for `index` > 1.
    """
    sigma = levels[index].to(noise)
    if index == 0:
        return begun(student, noise, sigma), sigma
    assert start is not None, "a later level needs noise to begin from"
    found = few_step(student, start, levels[:index], labels, draw=draw)
    return found.to(noise) + sigma * noise, sigma
