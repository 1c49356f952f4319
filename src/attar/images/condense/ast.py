"""AST: trajectory matching with better but smooth experts, and students that match intermediate epochs too.

Try it if MTT's experts are too weak. Momentum makes experts better; a warm-up and a gradient penalty keep them easy to
follow. Its start from clusters of an expert's logits alone gains some points over random images.
Shen, Yang and Lam, AST: Effective Dataset Distillation through Alignment with Smooth and High-Quality Expert
Trajectories, arXiv:2310.10541. The paper's text was not available, so everything here is from its code. Differences
between the code and its apparent intention are noted.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

import torch
from torch import Tensor

from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.selection import k_means, nearest
from attar.core.sending import sent
from attar.core.settings import Range, Role
from attar.images.condense.adjoint import Waypoint
from attar.images.condense.mtt import MTT
from attar.images.condense.starts import Start
from attar.images.condense.trajectory import Distilling, Images, LabelLogits, expert_logits
from attar.images.experts import Experts
from attar.images.networks.flat import FlatNetwork, Vector
from attar.images.sources import ImageSource

SMOOTH = Experts(
    lr=0.003,
    momentum=0.9,
    weight_decay=1e-3,
    cut_epoch=27,
    smooth_penalty=2.0,
    smooth_warm_up=True,
)


@dataclass(frozen=True, kw_only=True)
class AST(MTT):
    """Align with smooth and good experts (Shen, Yang and Lam, arXiv 2023, arXiv:2310.10541).

    Students have momentum and start from perturbed parameters. Their loss is balanced over start epochs by
    b(t) = log₅(t - h + 8) from h = ⌊T⁺/2⌋ on and 1 / log₅(h - t + 8) before. They match intermediate epochs too: after
    ⌊T/M⌋ m steps the target is the expert m epochs after the start.
    """

    start: Literal[Start, "representative"] = "representative"  # type: ignore[assignment]
    """What the result is before the first step: random real images (real), Gaussian noise (noise), real images nearest
    to the centres of an expert's logits (representative), or the result of the selection method of that name."""
    clusters: Annotated[int, Range(1)] | None = None
    """Number of centres per class, which must divide ipc. Default: one per image. The code has 10 at any ipc, and so it
    has no images at one per class."""
    student_momentum: Annotated[float, Range(0, 1)] = 0.9
    middle: Literal["none", "equal", "rising"] = "equal"
    """Weight of the intermediate epochs. none: only the end is matched. equal: each counts as much as the end (`agg`).
    rising: the m-th of M counts m/M (`adaptive`)."""
    balanced: bool = True
    """Whether to balance the student's loss over start epochs."""
    perturbation: Annotated[float, Range(0)] = 1.0
    """Strength of the perturbation, a. Each kernel W becomes W + a d ⊙ W, where d is a random direction of length
    one."""
    experts: Annotated[Experts, Role()] = field(default_factory=lambda: SMOOTH)
    """Training of the experts, and the folder that holds them."""

    name = "ast"

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the settings without a value.

        Raises:
            InputError: The number of clusters does not divide the images per class.
        """
        counts = self.counts(source)
        if self.start == "representative":
            self.check_enough(source)
            if self.clusters and any(count % self.clusters for count in counts):
                raise InputError(f"clusters is {self.clusters}; it must divide ipc, {self.ipc}.")
        return super().resolve(source, runtime)

    def initial(self, state: Distilling, runtime: Runtime) -> tuple[Images, LabelLogits | None]:
        """Real images that are nearest to the centres of an expert's logits of each class."""
        if self.start != "representative":
            return super().initial(state, runtime)
        generator = runtime.generator("start")
        expert = int(torch.randint(len(state.pool), (), generator=generator))
        chosen = []
        for rows, count in zip(state.source.rows_of, self.counts(state.source), strict=True):
            answers = expert_logits(state.source.inputs(rows), expert, state, runtime)
            chosen.append(rows[representative(answers, count, self.clusters or count, generator)])
        return state.source.inputs(torch.cat(chosen)), None

    def departure(self, vector: Vector, state: Distilling, runtime: Runtime) -> Vector:
        """The student's start: the expert's parameters with perturbed kernels."""
        return perturbed(vector, state.flat, self.perturbation, runtime.generator("perturbation"))

    def waypoints(self, state: Distilling, expert: int, epoch: int, runtime: Runtime) -> dict[int, Waypoint]:
        """The target at the end, and the targets at intermediate epochs."""
        points = super().waypoints(state, expert, epoch, runtime)
        assert self.student_steps is not None, "resolve the settings first"
        if self.middle != "none":
            for m in range(1, self.span):
                weight = 1.0 if self.middle == "equal" else m / self.span
                target = state.pool.vector(expert, epoch + m, runtime.device)
                points.setdefault(self.student_steps // self.span * m, Waypoint(target, weight))
        return points

    def scale(self, epoch: int) -> float:
        """b(t) if the loss is balanced, otherwise 1."""
        assert self.last_start is not None
        return balance(epoch, self.last_start) if self.balanced else 1.0

    @classmethod
    def paper(cls, data: str, *, ipc: int) -> Self:
        """The settings of one of the author's scripts (`attar condense ast --paper` lists them).

        Raises:
            InputError: The table does not have the cell.
        """
        return published(cls, data, ipc)


def balance(epoch: int, last_start: int) -> float:
    """AST's factor of a student's loss: below 1 for early epochs, whose gradients are large, and above 1 for late."""
    half = last_start // 2
    return math.log(epoch - half + 8, 5) if epoch >= half else 1 / math.log(half - epoch + 8, 5)


def perturbed(vector: Vector, flat: FlatNetwork, strength: float, generator: torch.Generator) -> Vector:
    """The parameters with every convolution's weights W as W + strength · d ⊙ W; d is Gaussian, of length one."""
    if strength == 0:
        return vector
    pieces = dict(flat.parameters(vector))
    kernels = [name for name, piece in pieces.items() if piece.ndim == 4]
    draws = sent([torch.randn(pieces[name].shape, generator=generator) for name in kernels], vector.device)
    for name, drawn in zip(kernels, draws, strict=True):
        drawn = drawn.to(vector.dtype)
        pieces[name] = pieces[name] + strength * drawn / drawn.norm() * pieces[name]
    return torch.cat([piece.flatten() for piece in pieces.values()])


def representative(answers: Tensor, count: int, clusters: int, generator: torch.Generator) -> Tensor:
    """The rows of the images nearest to the centres of a class's logits: each row once, equally many per centre."""
    centres = k_means(answers, clusters, generator)
    return nearest(answers, centres.repeat_interleave(count // clusters, dim=0))
