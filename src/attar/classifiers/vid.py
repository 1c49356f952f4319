"""VID: maximise the information that the student's maps share with the teacher's, channel by channel.

A regressor predicts the teacher's maps, and a learned variance of each channel says how far to trust the prediction.
So channels that the student cannot predict cost little. It is an alternative to fitnets and reviewkd with learned
channel weights.
Ahn, Hu, Damianou, Lawrence and Dai, Variational Information Distillation for Knowledge Transfer, CVPR 2019,
arXiv:1904.05835.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.classifiers.distillation import InBenchmark
from attar.classifiers.fitnets import AnyMaps, Maps, at_one_size
from attar.classifiers.kd import Scalar
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.classifiers.watched import Answers
from attar.core.settings import Range

FIRST_VARIANCE = 5.0
"""Variance of every channel before the first step (the authors' code)."""
EPSILON = 1e-5
"""The smallest variance (the authors' code)."""


@dataclass(frozen=True, kw_only=True)
class VID(InBenchmark):
    """Predict the teacher's maps with a variance for each channel (Ahn et al., CVPR 2019, arXiv:1904.05835).

    L = CE + w Σ_stages mean ½ ((μ(s) - t)² / σ² + log σ²), where μ(s) is a learned prediction of the teacher's maps and
    σ²
    a learned variance of each channel. Up to a constant it bounds the information that the two maps share.
    """

    weight: Annotated[float, Range(0)] = 1.0
    """Weight of the method's term, w (CRD's benchmark)."""

    name = "vid"
    uses_stages = True

    def connectors(self, student: Answers, teacher: Answers) -> dict[str, nn.Module]:
        """One Gaussian for each stage."""
        pairs = zip(student.shapes, teacher.shapes, strict=True)
        return {"gaussians": nn.ModuleList(Gaussian(have, want) for (have, *_), (want, *_) in pairs)}

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The sum of the losses of all stages."""
        gaussians: Any = state.parts["gaussians"]
        losses = []
        for gaussian, *both in zip(gaussians, batch.student.stages, batch.teacher.stages, strict=True):
            maps, wanted = at_one_size(*both)
            losses.append(vid_loss(gaussian(maps), gaussian.variance, wanted))
        return {"information": self.weight * torch.stack(losses).sum()}


class Gaussian(nn.Module):
    """q(t | s) = N(μ(s), σ²). Three 1×1 convolutions give the mean; each channel has one variance."""

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(student, teacher, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher, teacher, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher, teacher, 1, bias=False),
        )
        self.scale = nn.Parameter(torch.full((teacher,), math.log(math.expm1(FIRST_VARIANCE - EPSILON))))

    @property
    def variance(self) -> Float[Tensor, " channel"]:
        """σ² = log(1 + e^a) + ε."""
        return F.softplus(self.scale) + EPSILON

    def forward(self, maps: AnyMaps) -> AnyMaps:
        """μ(s)."""
        return self.mean(maps)


def vid_loss(mean: Maps, variance: Float[Tensor, " channel"], teacher: Maps) -> Scalar:
    """-log q(t | s) without the constant ½ log 2π: the mean over all elements of ½ ((μ - t)² / σ² + log σ²).

    For fixed μ it is smallest if σ² is the mean squared error of each channel.
    """
    variance = variance[:, None, None]
    return ((mean - teacher.detach()).square() / variance + variance.log()).mean() / 2
