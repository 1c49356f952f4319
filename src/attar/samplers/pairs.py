"""Pairs: a student learns the samples that a teacher's ODE makes of given noise, each in one call.

The simplest rival of every other distillation, and on small data hard to beat: the pairs are made once, then it is a
regression. With few pairs, or where the noise does not tell the sample, results are blurred. Eric Luhman and Troy
Luhman, Knowledge Distillation in Iterative Generative Models for Improved Sampling Speed, 2021, arXiv:2101.02388.
"""

import copy
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core import store
from attar.core.dividing import divided
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Hidden, Range, Settings
from attar.core.state import rebuilt
from attar.core.training import cached, next_rows
from attar.samplers.artefact import PORTION, Sampler
from attar.samplers.denoisers import Condition, Denoising, Noisy
from attar.samplers.distances import HUBER, Distance, distance_of
from attar.samplers.learner import Batch, Learning, Student
from attar.samplers.sampling import Churn, begun
from attar.samplers.schedules import Levels
from attar.samplers.teaching import Work

FILE = "pairs.safetensors"


@dataclass
class PairLearning(Learning):
    """A student in training, and the pairs that it learns."""

    pairs: "Pairs" = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class PairRegression(Student):
    """Regression on pairs of noise and what the teacher's ODE makes of it, in one call.

    Luhman and Luhman, arXiv 2021, arXiv:2101.02388. Try it first: on small data it is hard to beat.
    """

    pair_count: Annotated[int, Range(1)] = 4000
    """Number of pairs of noise and the teacher's samples."""
    distance: Distance = "l2"
    """Distance between what is matched: the mean of squares (l2) or of their sizes (l1) over values, or pseudo-huber,
    √(Σ squares + c²) - c."""
    huber: Annotated[float, Range(0)] = HUBER
    """c of the pseudo-Huber distance as a multiple of √d, with d values in a sample."""
    weights_average: Annotated[float, Range(0, 1)] = 0.995
    """Decay of a moving average of the weights, which then is the result. It is smaller in the first steps. 0: none."""
    calls: Annotated[int, Range(1, 1), Hidden()] = 1
    """Number of calls of the student's network for a sample."""

    name = "pairs"
    needs_means = False

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published row.

        Args:
            data: cifar10 or celeba-64.

        Raises:
            InputError: There is no such row.
        """
        from attar.core.presets import published

        return published(cls, data)

    def resolve(self, work: Work, runtime: Runtime) -> Self:
        """The same settings with what follows from data and teacher filled in.

        Raises:
            InputError: The teacher's samples do not follow from its noise.
        """
        found = super().resolve(work, runtime)
        check_ode(work.teacher)
        return found

    def build(self, work: Work, runtime: Runtime) -> PairLearning:
        """The pairs, and a copy of the teacher that is to learn them."""
        pairs = pairs_of(work, self.pair_count, runtime)
        learning = super().build(work, runtime)
        return PairLearning(**{**vars(learning), "order": torch.zeros(len(pairs), dtype=torch.long)}, pairs=pairs)

    def drawn(self, state: PairLearning, runtime: Runtime) -> Batch:
        """The pairs of the next step, by their samples."""
        rows = next_rows(state.order, state.done, self.batch, runtime.generator("batches"))
        labels = None if state.pairs.labels is None else state.pairs.labels[rows].to(runtime.device)
        return Batch(rows, state.pairs.samples[rows].to(runtime.device), labels)

    def loss(self, batch: Batch, state: PairLearning, runtime: Runtime) -> Tensor:
        """The distance of G(σ_max z, σ_max) from the teacher's sample."""
        noise = state.pairs.noise[batch.rows].to(batch.clean)
        sigma = torch.tensor(state.pairs.sigma).to(noise)
        return pair_loss(
            state.student, noise, batch.clean, sigma, batch.labels, distance=self.distance, huber=self.huber
        ).mean()

    def form(self, state: Any) -> dict[str, Any]:
        """One call, at the level that the pairs begin at."""
        return {"solver": "few-step", "steps": 1, "given": (state.pairs.sigma,)}


def pair_loss(
    student: Denoising,
    noise: Noisy,
    samples: Noisy,
    sigma: Tensor,
    labels: Condition = None,
    *,
    distance: Distance = "l2",
    huber: float = HUBER,
) -> Float[Tensor, " _batch"]:
    """d(G(σ z, σ), x) of each pair of noise and sample.

    Args:
        student: G.
        noise: Standard normal z.
        samples: x, what the teacher makes of it.
        sigma: σ_max.
        labels: The condition of both.
        distance: d.
        huber: c / √d of the pseudo-Huber distance.
    """
    return distance_of(student(begun(student, noise, sigma), sigma, labels), samples, distance, huber)


@torch.no_grad()
def teacher_pairs(
    teacher: Sampler,
    count: int,
    *,
    levels: int | None = None,
    labels: Condition = None,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> tuple[Float[Tensor, "pair ..."], Float[Tensor, "pair ..."], Condition]:
    """Noise, what the teacher's ODE makes of it, and the labels, in float32.

    Args:
        teacher: A diffusion model on the device, or a student of one call. Noise that it adds is left out.
        count: Number of pairs.
        levels: Number of noise levels. Default: the teacher's.
        labels: The condition of each pair.
        generator: Draws the noise, on the CPU.
        device: Where the pairs are made.

    Raises:
        InputError: The teacher's samples do not follow from its noise.
    """
    check_ode(teacher, levels)
    still = replace(teacher, churn=Churn(), folder=None)
    still.denoiser.eval()
    noise = torch.randn(count, *teacher.shape, generator=generator).to(device)
    labels = None if labels is None else labels.to(device)
    made = []
    for start in range(0, count, PORTION):
        rows = slice(start, start + PORTION)
        made.append(still.run(noise[rows], None if labels is None else labels[rows], generator, levels).float())
    return noise, torch.cat(made), labels


def check_ode(teacher: Sampler | None, levels: int | None = None) -> None:
    """See that a teacher's samples follow from the noise that they start from.

    Raises:
        InputError: It draws fresh noise between its calls.
    """
    if teacher is None or teacher.solver != "few-step":
        return
    steps = levels or teacher.steps
    if steps > 1:
        raise InputError(
            f"the teacher draws fresh noise between its {steps} calls, so its samples do not follow from the first. "
            "Give a diffusion model, or --teacher.levels 1."
        )


# ---------------------------------------------------------------------------------- pairs that are made once and kept


@dataclass(frozen=True)
class Pairs:
    """Noise and the teacher's samples."""

    noise: Float[Tensor, "pair ..."]
    samples: Float[Tensor, "pair ..."]
    labels: Tensor | None
    sigma: float
    """The level that the noise is multiplied by, σ_max."""

    def __len__(self) -> int:
        return len(self.noise)

    def save(self, folder: Path) -> None:
        """Write them to a folder."""
        labels = {} if self.labels is None else {"labels": self.labels}
        store.write_tensors(
            folder / FILE, {"noise": self.noise, "samples": self.samples, **labels}, {"sigma": self.sigma}
        )

    def picture(self) -> None:
        """They have no picture."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        tensors, facts = store.read_tensors(folder / FILE)
        return cls(tensors["noise"], tensors["samples"], tensors.get("labels"), float(facts["sigma"]))


def pairs_of(work: Work, count: int, runtime: Runtime) -> Pairs:
    """So many pairs of a teacher: from the cache, or made now and kept there. A killed run goes on where it stopped."""
    assert work.teacher is not None
    method = MakePairs(pairs=count, levels=work.teacher.steps)
    return cached(method, work, runtime, title="making pairs of noise and sample")


@dataclass
class Making:
    """Pairs, of which some are made."""

    noise: Tensor
    samples: Tensor
    labels: Tensor | None = rebuilt()
    teacher: Sampler = rebuilt()
    done: int = field(default=0)


@dataclass(frozen=True, kw_only=True)
class MakePairs(Settings):
    """Pairs of noise and a teacher's sample, a portion in each step."""

    pairs: Annotated[int, Range(1)]
    """Number of pairs."""
    levels: Annotated[int, Range(1)]
    """Number of noise levels of the teacher."""

    name = "teacher-pairs"
    shares = True

    @property
    def total_steps(self) -> int:
        """Number of portions."""
        return math.ceil(self.pairs / PORTION)

    def resolve(self, work: Work, runtime: Runtime) -> Self:
        """Nothing is open."""
        return self

    def build(self, work: Work, runtime: Runtime) -> Making:
        """Room for the pairs, their labels, and the teacher on the device."""
        teacher = work.teacher
        assert teacher is not None
        labels = work.conditions(self.pairs, runtime.generator("labels"), torch.device("cpu"))
        room = torch.zeros(self.pairs, *teacher.shape)
        here = replace(teacher, denoiser=copy.deepcopy(teacher.denoiser).to(runtime.device))
        return Making(room, torch.zeros_like(room), labels, here)

    def step(self, state: Making, runtime: Runtime) -> Metrics:
        """One portion."""
        rows = slice(state.done * PORTION, min((state.done + 1) * PORTION, self.pairs))
        with divided(runtime.processes, state.teacher.denoiser):
            noise, samples, _ = teacher_pairs(
                state.teacher,
                rows.stop - rows.start,
                levels=self.levels,
                labels=None if state.labels is None else state.labels[rows],
                generator=runtime.generator("noise"),
                device=runtime.device,
            )
        state.noise[rows], state.samples[rows] = noise.cpu(), samples.cpu()
        state.done += 1
        return {"spread": samples.std(correction=0)}

    def result(self, state: Making, runtime: Runtime) -> Pairs:
        """The pairs so far, and zeros."""
        return Pairs(state.noise, state.samples, state.labels, first_level(state.teacher.levels(self.levels)))

    def load(self, folder: Path) -> Pairs:
        """Read pairs."""
        return Pairs.load(folder)


def first_level(levels: Levels) -> float:
    """The largest level."""
    return float(levels[0])
