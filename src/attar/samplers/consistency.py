"""Consistency distillation: a student whose answers agree at neighbouring points of the teacher's ODE, in one call.

Prefer it where samples should cover the data as the teacher's do (recall), or where a second call may help.
The learning rate and the two averages of the weights decide. Yang Song, Prafulla Dhariwal, Mark Chen and Ilya
Sutskever, Consistency Models, ICML 2023, arXiv:2303.01469.
"""

import copy
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.core.state import rebuilt
from attar.samplers.denoisers import Condition, Denoiser, Denoising, Noisy, broadcast
from attar.samplers.distances import HUBER, Distance, LevelWeight, distance_of, level_weight
from attar.samplers.learner import Alike, Batch, Learning, SamplerMethod, Student, same_dropout
from attar.samplers.sampling import heun_step
from attar.samplers.schedules import Levels
from attar.samplers.teaching import Work


@dataclass
class Agreeing(Learning):
    """A student in training, and what it agrees with."""

    target: Denoiser = field(default=None)  # type: ignore[assignment]
    """The moving average of the student that gives its targets."""
    teacher: Denoiser = rebuilt(default=None)
    """Whose ODE it learns, if there is a teacher."""


@dataclass(frozen=True, kw_only=True)
class Agreement(SamplerMethod):
    """What consistency models share, whether they learn from a teacher or from data."""

    calls: Annotated[int, Range(1, 1000)] = 1
    """Number of calls of the student's network for a sample."""
    call_levels: tuple[Annotated[int, Range(0)], ...] | None = None
    """Which noise levels of the grid the network is called at, by their numbers from 0, the largest; as many as there
    are calls. Default: at equal distances in the grid."""
    clamp: bool = False
    """Whether samples are cut to [-1, 1] after each call, as in released code."""
    target_decay: Annotated[float, Range(0, 1)] = 0.95
    """Decay μ of the moving average of the student's weights that gives its targets. 0: the student itself."""
    distance: Distance = "l2"
    """Distance between what is matched: the mean of squares (l2) or of their sizes (l1) over values, or pseudo-huber,
    √(Σ squares + c²) - c."""
    huber: Annotated[float, Range(0)] = HUBER
    """c of the pseudo-Huber distance as a multiple of √d, with d values in a sample."""
    level_weight: LevelWeight = "uniform"
    """What the loss of a noise level is multiplied by: 1 (uniform), SNR = 1/σ² (snr), SNR + 1, max(SNR, 1)
    (truncated-snr), or SNR + 1/σ_d² as EDM is trained (karras)."""

    @property
    def finest(self) -> int:
        """Number of noise levels of the grid, at the end of training."""
        raise NotImplementedError

    def resolve(self, work: Work, runtime: Runtime) -> Self:
        """The same settings with what follows from the data filled in.

        Raises:
            InputError: The levels of the calls are not in the grid, or there are more calls than levels.
        """
        found = super().resolve(work, runtime)
        found.levels.levels(self.finest)  # refuses more levels than the teacher's table has
        if self.call_levels is not None:
            check_calls(self.call_levels, self.finest)
            return replace(found, calls=len(self.call_levels))
        if self.calls >= self.finest:
            raise InputError(
                f"calls is {self.calls}, but of {self.finest} noise levels the last needs no call. Give fewer calls, "
                "or more levels."
            )
        return found

    def build(self, work: Work, runtime: Runtime) -> Agreeing:
        """The student, and the target that follows it."""
        learning = super().build(work, runtime)
        target = copy.deepcopy(learning.student).requires_grad_(False)
        return Agreeing(**vars(learning), target=target.train())

    def grid_at(self, done: int) -> Levels:
        """The noise levels after so many steps."""
        return self.levels.levels(self.finest)

    def decay_at(self, done: int) -> float:
        """μ after so many steps."""
        return self.target_decay

    def nearer(self, batch: Batch, noise: Noisy, noisy: Noisy, ends: tuple[Tensor, Tensor], state: Agreeing) -> Noisy:
        """What lies one step further on the way of noisy samples to the data."""
        raise NotImplementedError

    def loss(self, batch: Batch, state: Agreeing, runtime: Runtime) -> Tensor:
        """The distance between the student's answer at a level, and the target's at the next smaller one."""
        grid = self.grid_at(state.done)
        index = torch.randint(len(grid) - 1, (len(batch.clean),), generator=runtime.generator("levels"))
        sigma, following = (grid[index + more].to(batch.clean) for more in range(2))
        noise = self.noise(batch.clean, runtime)
        noisy = batch.clean + broadcast(sigma, batch.clean) * noise
        found = consistency_loss(
            state.student,
            state.target,
            noisy,
            self.nearer(batch, noise, noisy, (sigma, following), state),
            sigma,
            following,
            batch.labels,
            distance=self.distance,
            huber=self.huber,
            alike=same_dropout(state.student, runtime),
        )
        return (level_weight(sigma, self.level_weight, state.student.sigma_data) * found).mean()

    @torch.no_grad()
    def settle(self, state: Agreeing) -> None:
        """Move the averages of the weights."""
        super().settle(state)
        mine: list[Tensor] = list(state.target.parameters())
        theirs: list[Tensor] = list(state.student.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - self.decay_at(state.done))

    def form(self, state: Any) -> dict[str, Any]:
        """Few steps, between which σ_min of noise stays."""
        grid = self.levels.levels(self.finest)
        spread = range(0, self.calls * (self.finest // self.calls), self.finest // self.calls)
        given = tuple(float(grid[number]) for number in self.call_levels or spread)
        form = {"solver": "few-step", "steps": self.calls, "given": given}
        return {**form, "floor": self.levels.ends[0], "clamp": self.clamp}


@dataclass(frozen=True, kw_only=True)
class Consistency(Agreement, Student):
    """A student whose answers agree at neighbouring points of the teacher's ODE.

    Song, Dhariwal, Chen and Sutskever, ICML 2023, arXiv:2303.01469. Prefer it where recall counts.
    """

    grid_levels: Annotated[int, Range(2, 10_000)] = 18
    """Number N of noise levels between which the student learns to agree."""
    weights_average: Annotated[float, Range(0, 1)] = 0.995
    """Decay of a moving average of the weights, which then is the result. It is smaller in the first steps. 0: none."""

    name = "consistency"
    usual_steps = {"points": 2000, "small": 1700, "large": 20_000}  # noqa: RUF012

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published row.

        Args:
            data: cifar10, cifar10-l1, imagenet-64 or lsun-bedroom-256.

        Raises:
            InputError: There is no such row.
        """
        from attar.core.presets import published

        return published(cls, data)

    @property
    def finest(self) -> int:
        """Number of noise levels."""
        return self.grid_levels

    def build(self, work: Work, runtime: Runtime) -> Agreeing:
        """The student, its target, and the teacher, which keeps its own form."""
        assert work.teacher is not None
        state = super().build(work, runtime)
        state.teacher = self.placed(copy.deepcopy(work.teacher.denoiser), runtime).eval()
        return state

    @torch.no_grad()
    def nearer(self, batch: Batch, noise: Noisy, noisy: Noisy, ends: tuple[Tensor, Tensor], state: Agreeing) -> Noisy:
        """A step of Heun's method along the teacher's ODE."""
        return heun_step(state.teacher, noisy, *ends, batch.labels)


def consistency_loss(
    student: Denoising,
    target: Denoising,
    noisy: Noisy,
    nearer: Noisy,
    sigma: Float[Tensor, " _batch"],
    following: Float[Tensor, " _batch"],
    labels: Condition = None,
    *,
    distance: Distance = "l2",
    huber: float = HUBER,
    alike: Alike = nullcontext,
) -> Float[Tensor, " _batch"]:
    """d(f(x, σ), f⁻(x̂, σ')) of each sample, where f⁻ has no gradient (equation 7).

    Args:
        student: f, in the boundary form.
        target: f⁻, likewise.
        noisy: x at σ.
        nearer: x̂ at σ', on the same way to the data.
        sigma: σ.
        following: σ' < σ, the next level.
        labels: The condition.
        distance: d.
        huber: c / √d of the pseudo-Huber distance.
        alike: Is entered for each network, so that dropout can be the same in both.
    """
    with alike():
        found = student(noisy, sigma, labels)
    with torch.no_grad(), alike():
        wanted = target(nearer, following, labels)
    return distance_of(found, wanted, distance, huber)


def check_calls(numbers: tuple[int, ...], levels: int) -> None:
    """See that calls go down a grid from its largest level, and are not at the last, where nothing is left to do.

    Raises:
        InputError: They do not.
    """
    falls = all(one < other for one, other in pairwise(numbers))
    if not numbers or numbers[0] != 0 or not falls or numbers[-1] > levels - 2:
        raise InputError(
            f"call_levels is {', '.join(map(str, numbers)) or 'empty'}. Give rising numbers from 0 to {levels - 2}, "
            f"with 0 first: the last of {levels} levels needs no call."
        )
