"""Distances between samples, and weights of noise levels: parts of the losses that distil a diffusion model.

The weights are those of Salimans and Ho, Progressive Distillation for Fast Sampling of Diffusion Models, ICLR 2022,
arXiv:2202.00512, and of Karras et al., arXiv:2206.00364, with SNR = 1 / σ² of variance-exploding noise. The
pseudo-Huber distance is that of Song and Dhariwal, Improved Techniques for Training Consistency Models, ICLR 2024,
arXiv:2310.14189.
"""

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from attar.core.precision import at_least_float32
from attar.samplers.denoisers import Noisy

Distance = Literal["l2", "l1", "pseudo-huber"]
LevelWeight = Literal["uniform", "snr", "snr+1", "truncated-snr", "karras"]
HUBER = 0.00054
"""c / √d of the pseudo-Huber distance, as published."""


def distance_of(found: Noisy, wanted: Noisy, kind: Distance = "l2", huber: float = HUBER) -> Float[Tensor, " _batch"]:
    """The distance of each sample from the one that is wanted.

    Args:
        found: Samples.
        wanted: As many.
        kind: l2: the mean of squares over values. l1: the mean of their sizes. pseudo-huber: √(Σ squares + c²) - c.
        huber: c / √d of pseudo-huber, with d values in a sample.
    """
    gap = at_least_float32((found - wanted).flatten(1))
    if kind == "l2":
        return gap.square().mean(dim=1)
    if kind == "l1":
        return gap.abs().mean(dim=1)
    c = huber * math.sqrt(gap.shape[1])
    return (gap.square().sum(dim=1) + c**2).sqrt() - c


def level_weight(sigma: Float[Tensor, " _batch"], kind: LevelWeight, sigma_data: float) -> Float[Tensor, " _batch"]:
    """What the loss of each noise level is multiplied by.

    Args:
        sigma: σ of each sample.
        kind: uniform: 1. snr: 1/σ². snr+1. truncated-snr: max(SNR, 1). karras: SNR + 1/σ_d², as EDM is trained.
        sigma_data: σ_d.
    """
    snr = sigma.square().reciprocal()
    if kind == "snr":
        return snr
    if kind == "snr+1":
        return snr + 1
    if kind == "truncated-snr":
        return snr.clamp(min=1)
    return snr + 1 / sigma_data**2 if kind == "karras" else snr.new_ones(snr.shape)
