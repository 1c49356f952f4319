"""Progressive distillation: a student learns two steps of its teacher as one, and then is the teacher of the next.

Prefer it where samples should follow the teacher's ODE in a few steps rather than in one, or where students of several
numbers of steps are wanted: 16, 8, 4, 2 and 1 are all met on the way. Tim Salimans and Jonathan Ho, Progressive
Distillation for Fast Sampling of Diffusion Models, ICLR 2022, arXiv:2202.00512.
"""

import bisect
import copy
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.core.state import rebuilt
from attar.core.training import linear_rise
from attar.samplers.denoisers import Condition, Denoiser, Denoising, Noisy, broadcast
from attar.samplers.distances import LevelWeight, distance_of, level_weight
from attar.samplers.learner import Batch, Learning, Student
from attar.samplers.sampling import euler_step
from attar.samplers.schedules import Levels
from attar.samplers.teaching import Work

Variant = Literal["paper", "released"]


@dataclass
class Progress(Learning):
    """A student in training, and what it learns from."""

    previous: Denoiser = field(default=None)  # type: ignore[assignment]
    """The student of the stage before, which is the teacher from the second stage on."""
    teacher: Denoiser = rebuilt(default=None)
    """The teacher of the first stage."""


@dataclass(frozen=True, kw_only=True)
class Progressive(Student):
    """Students of half as many steps each, every one the teacher of the next.

    Salimans and Ho, ICLR 2022, arXiv:2202.00512. Prefer it where samples should follow the teacher's ODE in a few
    steps.
    """

    first_steps: Annotated[int, Range(1, 10_000)] = 16
    """Number of steps of the first student, which learns twice as many of the teacher; it is halved down to `calls`."""
    last_step: Variant = "paper"
    """Where the last step ends: at no noise (paper), or at σ_min, without a last denoising, as in released code."""
    level_weight: LevelWeight = "truncated-snr"
    """What the loss of a noise level is multiplied by: 1 (uniform), SNR = 1/σ² (snr), SNR + 1, max(SNR, 1)
    (truncated-snr), or SNR + 1/σ_d² as EDM is trained (karras)."""
    longer_end: bool = True
    """Whether the stages of two steps and of one are twice as long as the others, as published."""
    batch: Annotated[int, Range(1)] = 128
    """Batch size: samples per step."""

    name = "progressive"
    usual_steps = {"points": 2800, "small": 2800, "large": 20_000}  # noqa: RUF012

    @classmethod
    def paper(cls, data: str, *, variant: Variant = "paper") -> Self:
        """The settings of a published row.

        Args:
            data: cifar10.
            variant: paper, or released.

        Raises:
            InputError: There is no such row.
        """
        from attar.core.presets import published

        return published(cls, data, variant=variant)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.calls not in halved(self.first_steps):
            known = ", ".join(map(str, halved(self.first_steps)))
            raise InputError(
                f"calls is {self.calls}, which halving {self.first_steps} steps does not reach. Give one of {known}, "
                "or another --first-steps."
            )

    def resolve(self, work: Work, runtime: Runtime) -> Self:
        """The same settings with what follows from data and teacher filled in.

        Raises:
            InputError: There are fewer steps than stages.
        """
        found, stages = super().resolve(work, runtime), len(self.stages)
        if found.total_steps < sum(found.lengths):
            raise InputError(
                f"steps is {found.total_steps}, too few for {stages} stages. Give {sum(found.lengths)} or more."
            )
        found.points(found.first_steps)  # refuses more levels than the teacher's table has
        return found

    # --------------------------------------------------------------------------------------------------- its stages

    @property
    def stages(self) -> list[int]:
        """The number of steps of the student of each stage."""
        return halved(self.first_steps, self.calls)

    @property
    def lengths(self) -> list[int]:
        """The length of each stage, as a multiple of the shortest."""
        return [2 if self.longer_end and steps <= 2 else 1 for steps in self.stages]

    @property
    def ends(self) -> list[int]:
        """The number of training steps after which each stage ends."""
        return [self.total_steps * so_far // sum(self.lengths) for so_far in accumulate(self.lengths)]

    def stage_at(self, done: int) -> int:
        """The stage that a training step belongs to, by the number of those before it."""
        return min(bisect.bisect_right(self.ends, done), len(self.ends) - 1)

    def points(self, steps: int) -> Levels:
        """The 2n + 1 levels that begin, halve and end the n intervals of a student, down to 0 or σ_min."""
        fine = 2 * self.first_steps
        if self.last_step == "released":
            every = self.levels.levels(fine + 1)
        else:
            every = torch.cat([self.levels.levels(fine), torch.zeros(1, dtype=torch.float64)])
        return every[:: self.first_steps // steps]

    # ------------------------------------------------------------------------------------------------- its training

    def started(self, work: Work, runtime: Runtime) -> Denoiser:
        """A copy of the teacher; in the boundary form, where its steps end at no noise."""
        assert work.teacher is not None
        return work.teacher.denoiser.thawed() if self.last_step == "released" else super().started(work, runtime)

    def build(self, work: Work, runtime: Runtime) -> Progress:
        """The student of the first stage, and its teacher."""
        assert work.teacher is not None
        learning = super().build(work, runtime)
        teacher = self.placed(copy.deepcopy(work.teacher.denoiser), runtime).eval()
        previous = copy.deepcopy(learning.student).requires_grad_(False).eval()
        return Progress(**vars(learning), previous=previous, teacher=teacher)

    def lr_at(self, done: int) -> float:
        """The step size after so many steps; it decays anew in each stage."""
        stage = self.stage_at(done)
        begin, end = [0, *self.ends][stage], self.ends[stage]
        rise = linear_rise(done + 1, self.lr_warm_up * self.total_steps)
        return self.lr_after(done - begin, end - begin) * rise

    def step(self, state: Progress, runtime: Runtime) -> Metrics:
        """One batch; with the first of a later stage the student becomes the teacher."""
        if state.done in self.ends[:-1]:
            self.promote(state)
        return {**super().step(state, runtime), "student_steps": self.stages[self.stage_at(state.done - 1)]}

    def promote(self, state: Progress) -> None:
        """Make what has been learned the teacher, and the start of the next student."""
        learned = copy.deepcopy(state.kept.state_dict())
        for denoiser in (state.previous, state.student, *([state.average] if state.average else [])):
            denoiser.load_state_dict(learned)
        state.optimizer.state.clear()

    def loss(self, batch: Batch, state: Progress, runtime: Runtime) -> Tensor:
        """w(σ) (D(x + σ ε, σ) - x̃)², mean over values."""
        stage = self.stage_at(state.done)
        points = self.points(self.stages[stage])
        index = 2 * torch.randint(self.stages[stage], (len(batch.clean),), generator=runtime.generator("levels"))
        sigma, middle, end = (points[index + more].to(batch.clean) for more in range(3))
        noisy = batch.clean + broadcast(sigma, batch.clean) * self.noise(batch.clean, runtime)
        teacher = state.previous if stage else state.teacher
        target = progressive_target(teacher, noisy, sigma, middle, end, batch.labels)
        distance = distance_of(state.student(noisy, sigma, batch.labels), target)
        return (level_weight(sigma, self.level_weight, state.student.sigma_data) * distance).mean()

    def form(self, state: Progress) -> dict[str, Any]:
        """Euler's method on the grid of the present stage; one step to no noise is a single call."""
        steps = self.stages[self.stage_at(max(state.done - 1, 0))]
        points = self.points(steps)
        given = tuple(points[:-1:2].tolist())
        one = steps == 1 and self.last_step == "paper"
        return {"solver": "few-step" if one else "euler", "steps": steps, "given": given, "floor": float(points[-1])}


def halved(first: int, last: int = 1) -> list[int]:
    """A number of steps, halved for as long as it is even and not below the last one."""
    found = [first]
    while found[-1] % 2 == 0 and found[-1] > last:
        found.append(found[-1] // 2)
    return found


@torch.no_grad()
def progressive_target(
    teacher: Denoising,
    noisy: Noisy,
    sigma: Float[Tensor, " _batch"],
    middle: Float[Tensor, " _batch"],
    end: Float[Tensor, " _batch"],
    labels: Condition = None,
) -> Noisy:
    """The x0 with which one step of Euler's method gets where two steps of the teacher get.

    Args:
        teacher: The teacher's D.
        noisy: Samples at σ.
        sigma: The level at which the student's step begins.
        middle: That between the teacher's two steps.
        end: That at which they end; 0 in the last interval, where the target is x'' itself.
        labels: The condition.
    """
    halfway = euler_step(teacher, noisy, sigma, middle, labels)
    reached = euler_step(teacher, halfway, middle, end, labels)
    return exploding_target(noisy, reached, sigma, end)


def exploding_target(x: Noisy, reached: Noisy, sigma: Tensor, end: Tensor) -> Noisy:
    """x̃ = x - σ (x'' - x) / (σ'' - σ), where noise is added without scaling the sample (EDM's form).

    Args:
        x: Samples at σ.
        reached: x'', what the teacher makes of them at σ''.
        sigma: σ, one level or one of each sample.
        end: σ'' < σ, likewise.
    """
    near, after = broadcast(sigma, x), broadcast(end, x)
    return x - near * ((reached - x) / (after - near))


def preserving_target(x: Noisy, reached: Noisy, now: tuple[Tensor, Tensor], later: tuple[Tensor, Tensor]) -> Noisy:
    """x̃ = (x'' - (σ''/σ) x) / (α'' - (σ''/σ) α), the x0 with which DDIM steps from x to x'' (algorithm 2).

    Args:
        x: x_t = α x0 + σ ε.
        reached: x'', what the teacher makes of it.
        now: α and σ, one of all or of each sample.
        later: α'' and σ'', likewise.
    """
    (alpha, sigma), (alpha_later, sigma_later) = ([broadcast(one, x) for one in pair] for pair in (now, later))
    ratio = sigma_later / sigma
    return (reached - ratio * x) / (alpha_later - ratio * alpha)
