"""FitNets: a layer of the student, mapped by a regressor, should reproduce a layer of the teacher.

It is the oldest of the feature losses. It can hurt if the two networks are of different kinds.
Romero, Ballas, Kahou, Chassang, Gatta and Bengio, FitNets: Hints for Thin Deep Nets, ICLR 2015, arXiv:1412.6550.
"""

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.classifiers.distillation import InBenchmark
from attar.classifiers.kd import Scalar, kd_loss
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.classifiers.watched import Answers
from attar.core.errors import InputError
from attar.core.settings import Range

Maps = Float[Tensor, "sample channel height width"]
AnyMaps = Float[Tensor, "sample _ _ _"]
"""Maps of any layer; two of them may have different shapes."""
MapShape = tuple[int, int, int]
"""Channels, height, width."""


@dataclass(frozen=True, kw_only=True)
class FitNets(InBenchmark):
    """Match a layer of the teacher through a regressor (Romero et al., ICLR 2015, arXiv:1412.6550).

    L = CE + β mean (R(f_s) - f_t)². Both terms are trained together as in the CRD benchmark, or the hint first and then
    KD,
    as in the paper.
    """

    weight: Annotated[float, Range(0)] = 100.0
    """Weight of the method's term, β."""
    stage: int = 1
    """Number of the stage that is the hint, counted from 0. The CRD benchmark uses the second of three."""
    hint_share: Annotated[float, Range(0, 1)] = 0.0
    """Share of the epochs in which only the hint is trained, before labels and teacher (the paper's two stages). 0
    trains all terms at once."""
    teacher_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the teacher's answers, beside the hint or after it."""
    temperature: Annotated[float, Range(0.01)] = 4.0
    """Temperature that softens answers, T."""

    name = "fitnets"
    uses_stages = True

    def connectors(self, student: Answers, teacher: Answers) -> dict[str, nn.Module]:
        """The regressor of the hint.

        Raises:
            InputError: There is no such stage, or the map sizes cannot be matched.
        """
        if not -len(student.shapes) <= self.stage < len(student.shapes):
            raise InputError(f"stage is {self.stage}, but there are {len(student.shapes)} stages, counted from 0.")
        return {"regressor": Regressor(student.shapes[self.stage], teacher.shapes[self.stage])}

    def hinting(self, batch: Batch) -> bool:
        """Whether the run is still in its first stage, the hint."""
        return batch.progress < self.hint_share

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The hint, and the teacher's softened outputs if they have a weight."""
        terms, hinting = {}, self.hinting(batch)
        if hinting or not self.hint_share:
            given = state.parts["regressor"](batch.student.stages[self.stage])
            terms["hint"] = self.weight * hint_loss(given, batch.teacher.stages[self.stage])
        if self.teacher_weight and not hinting:
            answers = kd_loss(batch.student.logits, batch.teacher.logits, self.temperature)
            terms["teacher"] = self.teacher_weight * answers
        return terms

    def loss_terms(self, batch: Batch, state: Distilling) -> Terms:
        """All terms; in the first stage only the hint."""
        return self.terms(batch, state) if self.hinting(batch) else super().loss_terms(batch, state)


class Regressor(nn.Sequential):
    """Maps the student's maps to the teacher's size: a convolution that depends on the sizes, batch norm, ReLU.

    A student map that is equal or larger is convolved without padding, with a kernel of 1 + the difference. A map of
    twice
    the size is convolved with stride 2, and a map of half the size is deconvolved (as in the CRD benchmark).
    """

    def __init__(self, student: MapShape, teacher: MapShape) -> None:
        (have, height, width), (want, high, wide) = student, teacher
        if (height, width) == (2 * high, 2 * wide):
            change: nn.Module = nn.Conv2d(have, want, 3, stride=2, padding=1)
        elif (2 * height, 2 * width) == (high, wide):
            change = nn.ConvTranspose2d(have, want, 4, stride=2, padding=1)
        elif height >= high and width >= wide:
            change = nn.Conv2d(have, want, (1 + height - high, 1 + width - wide))
        else:
            raise InputError(
                f"the student's hint is {height}×{width}, the teacher's {high}×{wide}. Choose layers of one size, or "
                "a student layer of half or twice the size, or a larger one."
            )
        super().__init__(change, nn.BatchNorm2d(want), nn.ReLU(inplace=True))


def hint_loss(regressed: Maps, teacher: Maps) -> Scalar:
    """The mean squared error over all elements."""
    return (regressed - teacher.detach()).square().mean()


def at_one_size(student: AnyMaps, teacher: AnyMaps) -> tuple[AnyMaps, AnyMaps]:
    """Both maps; the larger one is average-pooled to the height and width of the smaller."""
    if student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)
