"""The student: a narrower encoder that gives the fair codes of a teacher, from rows or from noise.

From rows it learns the teacher's code of each row (paired), or only their distribution (mmd). From noise there are no
pairs, so it learns the distribution, by MMD and by the moments; squared errors of rows would shrink to their mean.
Sikder, Ramachandranpillai, de Leng and Heintz, Generating Synthetic Fair Syntax-agnostic Data by Learning and
Distilling Fair Representation, 2024, arXiv:2408.10755; from noise, Fair4Free of the same group, 2024, arXiv:2410.01423.
No code is released. The two losses are named there, and their form is attar's reading.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.seeds import seeded
from attar.core.settings import Range, Settings
from attar.tables.dependence import Codes, Groups, Scalar
from attar.tables.teacher import encoder, halves, one_hot

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Widths of MMD's kernels, in units of the median distance of the teacher's codes."""


@dataclass(frozen=True, kw_only=True)
class FairStudent(Settings):
    """Settings of the student's training."""

    student_width: Annotated[int, Range(1)] = 16
    """Units of the student's hidden layer; fewer than the teacher's."""
    student_epochs: Annotated[int, Range(1)] | None = None
    """Passes of the student over the training data. Default: a third of the teacher's."""
    quality: Literal["paired", "mmd"] = "paired"
    """Quality loss of a student that reads rows: squared distance of each row's means, or MMD of all codes. From noise
    it is always MMD."""
    utility_weight: Annotated[float, Range(0)] = 1.0
    """Weight λ of the utility loss, the KL divergence from the teacher's codes to the student's."""


class Student(nn.Module):
    """An encoder of rows or of noise."""

    def __init__(self, read: int, groups: int, latents: int, hidden: int) -> None:
        super().__init__()
        self.groups = groups
        self.encoder = encoder(read + groups, hidden, latents)

    def forward(self, features: Float[Tensor, "row input"], groups: Groups | None = None) -> tuple[Codes, Codes]:
        """μ′ and log σ²′, from features of rows with their groups, or from noise."""
        shares = [] if groups is None else [one_hot(groups, self.groups)]
        return halves(self.encoder(torch.cat([features, *shares], dim=1)))


def fresh(read: int, groups: int, latents: int, hidden: int, generator: torch.Generator) -> Student:
    """A student before its training; of noise if there are no groups."""
    with seeded(generator):
        return Student(read, groups, latents, hidden)


def paired_loss(student: tuple[Codes, Codes], teacher: tuple[Codes, Codes]) -> dict[str, Scalar]:
    """L_Q = mean ‖μ′ - μ‖² and L_U = mean KL(N(μ, σ²) ‖ N(μ′, σ²′)), row by row."""
    return {"quality": (student[0] - teacher[0]).square().sum(dim=1).mean(), "utility": gaussian_kl(teacher, student)}


def gaussian_kl(p: tuple[Codes, Codes], q: tuple[Codes, Codes]) -> Scalar:
    """KL(N(μ_p, σ²_p) ‖ N(μ_q, σ²_q)), summed over dimensions, the mean over rows.

    Args:
        p: μ and log σ² of each row.
        q: The same.
    """
    gap, ratio = (p[0] - q[0]).square(), p[1] - q[1]
    return 0.5 * (ratio.exp() + gap / q[1].exp() - 1 - ratio).sum(dim=1).mean()


def moments(codes: Codes) -> tuple[Float[Tensor, "1 latent"], Float[Tensor, "1 latent"]]:
    """Mean and log variance of all codes, as of one row."""
    return codes.mean(dim=0, keepdim=True), codes.var(dim=0, unbiased=False).clamp_min(1e-12).log()[None]


def mmd(first: Float[Tensor, "one latent"], second: Float[Tensor, "other latent"]) -> Scalar:
    """MMD², the mean over Gaussian kernels of several widths; unbiased, so that it may be a little below zero.

    Gretton, Borgwardt, Rasch, Schölkopf and Smola, A Kernel Two-Sample Test, JMLR 2012.

    Args:
        first: Codes that shall be like the second.
        second: The codes of the teacher, whose distances set the widths.
    """
    within, between = _squared(second, second), _squared(first, second)
    own = _squared(first, first)
    scale = within.detach().median().clamp_min(1e-12)
    total = first.new_zeros(())
    for width in BANDWIDTHS:
        kernel = 2 * width**2 * scale
        total = total + _off_diagonal((-own / kernel).exp()) + _off_diagonal((-within / kernel).exp())
        total = total - 2 * (-between / kernel).exp().mean()
    return total / len(BANDWIDTHS)


def _squared(first: Float[Tensor, "one latent"], second: Float[Tensor, "other latent"]) -> Float[Tensor, "one other"]:
    return (first.square().sum(dim=1)[:, None] + second.square().sum(dim=1) - 2 * first @ second.T).clamp_min(0)


def _off_diagonal(kernel: Float[Tensor, "one one"]) -> Scalar:
    count = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / max(count * (count - 1), 1)
