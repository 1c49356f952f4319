"""EnsLoss: in every step a fresh random loss, of which only the derivatives at the margins of the batch are drawn.

A loss of margins enters the gradient of a batch only through its derivatives at the margins. They are drawn: sorted
like the margins (a convex loss), below zero (a calibrated one), and falling at large margins (a loss that is bounded
below). Worth trying when a classifier of two classes is trained for long on little data without augmentation; compare
it with the Log-Hinge, which has the same tail and no randomness, and did as well in our comparisons.
Dai, EnsLoss: Stochastic Calibrated Loss Ensembles for Preventing Overfitting in Classification, ICML 2025,
arXiv:2409.00908.

The value of the loss has no meaning and must not stop a training or choose an epoch. The sort is over the samples of
one call: with accumulated gradients, or several processes, each part of a batch has an order of its own, which is
another method. As in the released code, sizes of derivatives are clipped log-normal numbers (λ = 0) in all published
runs. Unlike it, equal margins keep their order, and half precision is not used. Logits of more than two classes are
taken one class against the rest: that is experimental, is not in the paper, and no calibration is claimed for it.
"""

import math
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.losses.scores import (
    MarginLoss,
    Scores,
    Targets,
    checked_setting,
    margins_of_scores,
    weighted_mean,
)
from attar.core.errors import InputError, unknown
from attar.core.precision import at_least_float32

Margins = Float[Tensor, "*margins"]
Tail = Literal["inverse", "log2", "none"]
"""Factor of derivatives at large margins: 1 / s^p above 1 (inverse), 1 / (s log² s) above e (log2), or none."""


def calibrated_loss_derivatives(
    margins: Margins,
    *,
    lam: float = 0.0,
    clip: float | None = 1.0,
    tail: Tail = "inverse",
    tail_power: float = 1.0,
    eps: float = 1e-6,
    normal: Margins | None = None,
    generator: torch.Generator | None = None,
) -> Margins:
    """Derivatives g of a random convex calibrated loss at margins: below zero, and not falling where margins rise.

    They have no gradient. Each class of several, in the last dimension, has a loss of its own.

    Args:
        margins: s = y f.
        lam: λ of the inverse Box-Cox transform, by which normal numbers become sizes of derivatives.
        clip: Largest size. None: no limit, which λ below zero needs.
        tail: How derivatives at large margins are lowered.
        tail_power: p of the inverse tail. Only p > 1 bounds the loss below for certain; the released code has 1.
        eps: What is subtracted from each derivative, so that all are below zero.
        normal: Standard normal numbers. Default: they are drawn.
        generator: Where they are drawn from. Default: the global generator.

    Raises:
        InputError: λ is below zero without a limit, or there is no such tail.
    """
    margins = at_least_float32(margins.detach())
    if normal is None:
        normal = drawn_for(margins, generator)
    sizes = sizes_of(normal.to(margins), lam=lam, clip=clip).sort(dim=0, descending=True).values
    by_margin = margins.argsort(dim=0, stable=True)
    sizes = torch.zeros_like(sizes).scatter(0, by_margin, sizes)
    return -sizes * _tail(margins, tail, tail_power) - eps


def sizes_of(normal: Margins, *, lam: float = 0.0, clip: float | None = 1.0) -> Margins:
    """The inverse Box-Cox transform of normal numbers: e^n for λ = 0, else max(0, 1 + λ n)^(1/λ), cut at the limit.

    Raises:
        InputError: λ is below zero, where sizes can be infinite, and there is no limit.
    """
    if lam < 0 and clip is None:
        raise InputError(f"lam is {lam:g}, with which derivatives can be infinite. Set clip.")
    sizes = normal.exp() if lam == 0 else ((lam * normal).clamp(min=-1).log1p() / lam).exp()
    return sizes if clip is None else sizes.clamp(max=clip)


def ens_loss(
    scores: Scores,
    target: Targets,
    *,
    sample_weight: Float[Tensor, " sample"] | None = None,
    **how: Any,
) -> Float[Tensor, ""]:
    """The pseudo-loss, mean of g s with g constant. Its gradient is the method; its value has no meaning.

    Args:
        scores: Scores f of the second of two classes, `[sample]` or `[sample, 1]`, without a sigmoid.
        target: Labels: 0 and 1, -1 and 1, or booleans.
        sample_weight: A weight for each sample. The mean is that of the weighted samples.
        how: Settings of `calibrated_loss_derivatives`.

    Raises:
        InputError: Shapes do not fit, a label is none, or settings do not go together.
    """
    margins = margins_of_scores(scores, target)
    return weighted_mean(calibrated_loss_derivatives(margins, **how) * margins, sample_weight)


class EnsLoss(MarginLoss):
    """`ens_loss` as a module; the arguments are those of `calibrated_loss_derivatives`.

    `lam` may be changed between two steps, as `redraw` does.

    Args:
        lam: λ of the inverse Box-Cox transform, by which normal numbers become sizes of derivatives.
        clip: Largest size. None: no limit, which λ below zero needs.
        tail: How derivatives at large margins are lowered.
        tail_power: p of the inverse tail.
        eps: What is subtracted from each derivative, so that all are below zero.
        generator: Where normal numbers are drawn from. Default: the global generator.
    """

    settings = ("lam", "clip", "tail", "tail_power")
    pseudo = True

    def __init__(
        self,
        lam: float = 0.0,
        clip: float | None = 1.0,
        tail: Tail = "inverse",
        tail_power: float = 1.0,
        eps: float = 1e-6,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if tail not in get_args(Tail):
            raise unknown("tail", str(tail), get_args(Tail))
        self.lam = checked_setting("lam", lam, least=-math.inf)
        self.clip = None if clip is None else checked_setting("clip", clip)
        self.tail: Tail = tail
        self.tail_power = checked_setting("tail_power", tail_power)
        self.eps = checked_setting("eps", eps)
        self.generator = generator
        sizes_of(torch.zeros(1), lam=self.lam, clip=self.clip)

    def redraw(self, least: float = -1.0, most: float = 1.0) -> None:
        """Draw λ anew. The released code can do so every few epochs, for text from 0 to 1; no published run does."""
        generator = self.generator
        share = torch.rand((), generator=generator, device=generator.device if generator else "cpu")
        self.lam = least + (most - least) * float(share)

    def drawn(self, samples: int, classes: int, generator: torch.Generator | None = None) -> Tensor:
        """The normal numbers of a batch."""
        shape = (samples, classes) if classes > 2 else (samples,)
        return drawn_for(torch.empty(shape), generator or self.generator)

    def of_margins(self, margins: Margins, drawn: Tensor | None = None) -> Margins:
        """The pseudo-loss g s of each margin."""
        derivatives = calibrated_loss_derivatives(
            margins,
            lam=self.lam,
            clip=self.clip,
            tail=self.tail,
            tail_power=self.tail_power,
            eps=self.eps,
            normal=drawn,
            generator=self.generator,
        )
        return derivatives * margins


def drawn_for(margins: Margins, generator: torch.Generator | None = None) -> Margins:
    """Standard normal numbers in the shape of margins, on their device."""
    device = margins.device if generator is None else generator.device
    return torch.randn(margins.shape, generator=generator, device=device, dtype=margins.dtype).to(margins.device)


def _tail(margins: Margins, tail: Tail, power: float) -> Margins:
    """The factor of derivatives at each margin: 1 up to where the tail begins."""
    if tail == "inverse":
        return margins.clamp(min=1).pow(-power)
    if tail == "log2":
        beyond = margins.clamp(min=torch.e)
        return torch.where(margins > torch.e, 1 / (beyond * beyond.log().square()), 1.0)
    if tail == "none":
        return torch.ones_like(margins)
    raise unknown("tail", str(tail), get_args(Tail))
