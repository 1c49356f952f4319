"""ReviewKD: every stage of the student learns from the teacher's stages up to its own.

Deep stages are fused into shallow ones. It is the strongest of the feature losses in the field's tables, and needs a
fusion module as large as a small student.
Chen, Liu, Zhao and Jia, Distilling Knowledge via Knowledge Review, CVPR 2021, arXiv:2104.09044.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.classifiers.distillation import Distillation
from attar.classifiers.fitnets import AnyMaps, Maps, MapShape
from attar.classifiers.kd import Scalar
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.classifiers.watched import Answers
from attar.core.presets import published
from attar.core.settings import Range

MOST_CHANNELS = 512
POOLS = (4, 2, 1)
"""Side lengths to which maps are pooled for the comparison at several scales. Each has half the weight of the one
before."""


@dataclass(frozen=True, kw_only=True)
class ReviewKD(Distillation):
    """Review the teacher's stages, from deep to shallow (Chen et al., CVPR 2021, arXiv:2104.09044).

    L = CE + λ w(e) Σ_levels HCL(fused student, teacher), w(e) = min(1, e / warm-up). The authors compare with the
    teacher's maps before their last activation. Name such layers (`teacher_layers`), or give `before-activation` for
    attar's own networks of the benchmark. Default: the maps after the activation.
    """

    weight: Annotated[float, Range(0)] = 1.0
    """Weight of the method's term, λ. The paper uses 0.6 to 8 by pair on CIFAR-100 and 1 on ImageNet."""
    pooled: bool = True
    """Whether the features before the last layer are reviewed as one more stage, a map of 1×1."""
    fusion_channels: Annotated[int, Range(1)] | None = None
    """Number of channels in the fusion modules. Default: that of the student's last features, at most 512. If these are
    a flattened map, its number of channels."""

    name = "reviewkd"
    uses_stages = True

    @property
    def features_of(self) -> tuple[str, ...]:  # type: ignore[override]
        """Both networks, if the pooled features are reviewed."""
        return ("student", "teacher") if self.pooled else ()

    def stages(self, answers: Answers) -> list[Tensor]:
        """The maps that are compared."""
        return [*answers.stages, answers.embedding[:, :, None, None]] if self.pooled else answers.stages

    def connectors(self, student: Answers, teacher: Answers) -> dict[str, nn.Module]:
        """The fusion modules."""
        mine, theirs = ([shape_of(maps) for maps in self.stages(said)] for said in (student, teacher))
        return {"review": Review(mine, theirs, self.fusion_channels)}

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The review loss, warmed up."""
        fused = state.parts["review"](self.stages(batch.student))
        return {"review": self.weight * batch.warm * review_loss(fused, self.stages(batch.teacher))}

    @classmethod
    def paper(cls, pair: str) -> Self:
        """The settings of one cell of the paper's tables.

        CIFAR-100: batches of 128, learning rate 0.1, Nesterov momentum.

        The teacher's maps are those before their last activation. On ImageNet the student's are too.

        Args:
            pair: Teacher and student, such as resnet56-resnet20.

        Raises:
            InputError: The tables do not have the pair.
        """
        return published(cls, pair)


class Fusion(nn.Module):
    """ABF: fuse one stage of the student, by learned attention, with the result of the deeper stages."""

    def __init__(self, channels: int, middle: int, wanted: int, *, first: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(channels, middle, 1, bias=False), nn.BatchNorm2d(middle))
        self.expand = nn.Sequential(nn.Conv2d(middle, wanted, 3, padding=1, bias=False), nn.BatchNorm2d(wanted))
        self.attend = None if first else nn.Sequential(nn.Conv2d(2 * middle, 2, 1), nn.Sigmoid())
        for layer in (self.reduce, self.expand):
            nn.init.kaiming_uniform_(next(layer.parameters()), a=1)

    def forward(self, maps: AnyMaps, handed: AnyMaps | None, size: tuple[int, int]) -> tuple[AnyMaps, AnyMaps]:
        """The map that is compared with the teacher's stage of this size, and the map for the next fusion."""
        reduced = self.reduce(maps)
        if self.attend is not None and handed is not None:
            handed = F.interpolate(handed, size=reduced.shape[2:], mode="nearest")
            weights = self.attend(torch.cat([reduced, handed], dim=1))
            reduced = reduced * weights[:, :1] + handed * weights[:, 1:]
        if tuple(reduced.shape[2:]) != size:
            reduced = F.interpolate(reduced, size=size, mode="nearest")
        return self.expand(reduced), reduced


class Review(nn.Module):
    """The fusions of all stages.

    Args:
        student: Shapes of the student's stages, shallow to deep. The last may be the pooled features, as 1×1 maps.
        teacher: Shapes of the teacher's stages, as many.
        channels: Number of channels in the fusions. Default: `fused_channels`.
    """

    def __init__(self, student: Sequence[MapShape], teacher: Sequence[MapShape], channels: int | None = None) -> None:
        super().__init__()
        middle = channels or fused_channels(student)
        self.sizes = [(height, width) for _, height, width in reversed(teacher)]
        pairs = list(zip(reversed(student), reversed(teacher), strict=True))
        self.fusions = nn.ModuleList(
            Fusion(have[0], middle, want[0], first=index == 0) for index, (have, want) in enumerate(pairs)
        )

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """The fused map of each stage, shallow to deep."""
        found, handed = [], None
        for fusion, maps, size in zip(self.fusions, reversed(stages), self.sizes, strict=True):
            out, handed = fusion(maps, handed, size)
            found.append(out)
        return found[::-1]


def shape_of(maps: AnyMaps) -> MapShape:
    """Channels, height and width."""
    return maps.shape[1], maps.shape[2], maps.shape[3]


def fused_channels(student: Sequence[MapShape]) -> int:
    """Number of channels in the fusions: that of the student's last stage, at most 512.

    Pooled features count as such a stage, but a flattened map does not. It would have channels × positions channels,
    and
    the fusions would be many times larger than the student.
    """
    *maps, last = student
    if maps and last[1:] == (1, 1):
        channels, height, width = maps[-1]
        if channels < last[0] <= channels * height * width and last[0] % channels == 0:
            return min(MOST_CHANNELS, channels)
    return min(MOST_CHANNELS, last[0])


def pool_weights(side: int) -> dict[int, float]:
    """Weights of a comparison at several scales: 1 for the maps themselves, then 1/2, 1/4, ... for smaller sides."""
    used = [pool for pool in POOLS if pool < side]
    return {side: 1.0} | {pool: 0.5 ** (index + 1) for index, pool in enumerate(used)}


def hierarchical_loss(student: Maps, teacher: Maps) -> Scalar:
    """HCL: the weighted mean, over scales, of the mean squared error of pooled maps.

    Scales are those below the maps' height. Maps are pooled from the maps themselves, or from those of a larger scale
    that divides both of their sides: the means are equal then, and it is cheaper.
    """
    height, *_ = sides = student.shape[2:]
    weights = pool_weights(height)
    given, wanted = student, teacher.detach()
    total = weights.pop(height) * F.mse_loss(given, wanted)
    for side, weight in weights.items():
        pooled = F.adaptive_avg_pool2d(given, side), F.adaptive_avg_pool2d(wanted, side)
        total = total + weight * F.mse_loss(*pooled)
        if not any(length % side for length in sides):
            given, wanted = pooled
    return total / sum(pool_weights(height).values())


def review_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Scalar:
    """The sum of `hierarchical_loss` over stages."""
    losses = [hierarchical_loss(given, wanted) for given, wanted in zip(student, teacher, strict=True)]
    return torch.stack(losses).sum()
