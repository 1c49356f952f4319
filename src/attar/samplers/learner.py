"""The training loop of all samplers: noisy batches, a method's loss, one optimiser, and an average of the weights.

A method defines its loss, or its whole step. Everything else is here, once: the order of the samples, the schedule of
the step size, the precision of the networks, and checkpoints.
"""

import copy
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor, nn

from attar.core.dividing import divided
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import seeded_by
from attar.core.settings import Hidden, Range, Settings
from attar.core.sharing import Share
from attar.core.state import rebuilt
from attar.core.training import linear_rise, next_rows, set_lr
from attar.images.networks.architecture import parameter_count
from attar.samplers.artefact import Origin, Sampler, kept
from attar.samplers.denoisers import Condition, Denoiser
from attar.samplers.schedules import Grid
from attar.samplers.sources import Rows, Samples
from attar.samplers.teaching import Work, check_alike

Alike = Callable[[], AbstractContextManager[None]]
Beta = Annotated[float, Range(0, 0.999999)]
WATCHED = ("rFD", "recall", "rFD of halves", "recall of halves")
"""Scores while training, by name."""


@dataclass
class Batch:
    """The real samples of one step."""

    rows: Rows
    clean: Samples
    labels: Condition


@dataclass
class Learning:
    """A denoiser in training."""

    student: Denoiser
    average: Denoiser | None
    """The moving average of its weights, if there is one."""
    optimizer: torch.optim.Optimizer
    order: Rows
    """Training rows in the order of the present pass."""
    done: int = 0
    work: Work = rebuilt(default=None)
    watched: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(WATCHED))
    """The last scores while training, if there are any."""

    @property
    def kept(self) -> Denoiser:
        """What is kept: the average, where there is one."""
        return self.student if self.average is None else self.average


@dataclass(frozen=True, kw_only=True)
class SamplerMethod(Settings):
    """Settings and training loop of the methods that make a sampler."""

    steps: Annotated[int, Range(1)] | None = None
    """Steps in all. Default: by the method and the shape of the samples, for a run of about a minute."""
    batch: Annotated[int, Range(1)] = 256
    """Batch size: samples per step."""
    lr: Annotated[float, Range(0)] = 1e-3
    """Step size (learning rate)."""
    lr_decay: Literal["linear", "none"] = "linear"
    """Decay of the step size: down to zero in a straight line, or none."""
    lr_warm_up: Annotated[float, Range(0, 1)] = 0.0
    """Share of the run over which the step size rises first, linearly, step by step."""
    optimizer: Literal["adam", "adamw", "radam"] = "adam"
    """Optimiser: Adam, AdamW or RAdam, in one fused call for all parameters where PyTorch has one."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """β₁ and β₂ of Adam."""
    weight_decay: Annotated[float, Range(0)] = 0.0
    """Weight decay."""
    clip_norm: Annotated[float, Range(0)] | None = None
    """Norm to which a longer gradient of all that is learned is cut. Default: no limit."""
    weights_average: Annotated[float, Range(0, 1)] = 0.0
    """Decay of a moving average of the weights, which then is the result. It is smaller in the first steps. 0: none."""
    average_half_life: Annotated[float, Range(0)] | None = None
    """Half-life of that average in samples, from which its decay follows by the batch size. Default: the decay as it
    is given."""
    half: Literal["auto", "on", "off"] = "auto"
    """Whether networks multiply in bfloat16 while they are trained. auto: where the hardware multiplies it natively.
    Losses, samples and weights stay in float32."""
    levels: Grid = field(default_factory=Grid)
    """The noise levels."""
    watch: Annotated[int, Range(0)] = 0
    """Interval between scores while training, in steps: relative Fréchet distance and recall on the training samples,
    on the progress line. 0: none."""
    samples: Annotated[int, Hidden()] = 0
    """Number of training samples; filled in from the data."""

    kind = "samplers"
    shares = True
    usual_steps = {"points": 2000, "small": 2000, "large": 20_000}  # noqa: RUF012
    """Steps by the shape of the samples."""

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        assert self.steps is not None, "resolve it first"
        return self.steps

    def resolve(self, work: Work, runtime: Runtime) -> Self:
        """The same settings with what follows from the data filled in."""
        shape = work.source.shape
        size = "points" if len(shape) == 1 else "small" if max(shape[1:]) <= 16 else "large"
        steps = self.usual_steps[size] if self.steps is None else self.steps
        grid = self.levels.resolve(shape) if work.teacher is None else work.teacher.grid
        half_life = self.average_half_life
        decay = self.weights_average if half_life is None else 0.5 ** (self.batch / half_life) if half_life else 0.0
        samples = len(work.source.train)
        return dataclasses.replace(self, steps=steps, levels=grid, samples=samples, weights_average=decay)

    def work(self, work: Work) -> float:
        """Networks run eagerly: compiling takes longer than it saves."""
        return 0.0

    # ------------------------------------------------------------------------------------------ what a method fills in

    def started(self, work: Work, runtime: Runtime) -> Denoiser:
        """The denoiser before the first step."""
        raise NotImplementedError

    def loss(self, batch: Batch, state: Any, runtime: Runtime) -> Tensor:
        """The loss of a batch."""
        raise NotImplementedError

    def form(self, state: Any) -> dict[str, Any]:
        """How the result is sampled: `solver`, `steps`, and further fields of a `Sampler`."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------- the one loop

    def build(self, work: Work, runtime: Runtime) -> Any:
        """The state before the first step."""
        student = self.placed(self.started(work, runtime), runtime)
        return self.state_of(student, work)

    def state_of(self, student: Denoiser, work: Work) -> Learning:
        """The state of a denoiser that is about to learn."""
        average = copy.deepcopy(student).requires_grad_(False) if self.weights_average else None
        order = torch.zeros(self.samples, dtype=torch.long)
        return Learning(student, average, self.optimizer_of(student), order, work=work)

    def placed(self, denoiser: Denoiser, runtime: Runtime) -> Denoiser:
        """A denoiser on the device of the run, in the precision of the run."""
        denoiser.multiplies = torch.bfloat16 if self.half_on(runtime) else None
        return denoiser.to(runtime.device)

    def half_on(self, runtime: Runtime) -> bool:
        """Whether networks multiply in bfloat16."""
        if self.half != "auto":
            return self.half == "on"
        return runtime.multiplies_bfloat16

    def optimizer_of(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of a module."""
        learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
        how: dict[str, Any] = {"lr": self.lr, "betas": self.betas, "weight_decay": self.weight_decay}
        if self.optimizer == "radam":
            return torch.optim.RAdam(learned, **how)
        made = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
        return made(learned, fused=True, **how)

    def lr_at(self, done: int) -> float:
        """The step size after so many steps."""
        return self.lr_after(done, self.total_steps) * linear_rise(done + 1, self.lr_warm_up * self.total_steps)

    def lr_after(self, done: int, total: int) -> float:
        """The step size after so many steps of a stretch, at whose end it has decayed."""
        return self.lr * (1 - done / total if self.lr_decay == "linear" else 1.0)

    def drawn(self, state: Any, runtime: Runtime) -> Batch:
        """The real samples of the next step: every one once in each pass."""
        rows = next_rows(state.order, state.done, self.batch, runtime.generator("batches"))
        train = state.work.source.train
        labels = state.work.labels_of(rows)
        labels = None if labels is None else labels.to(runtime.device)
        return Batch(rows, train[rows].to(runtime.device), labels)

    def noise(self, like: Tensor, runtime: Runtime, purpose: str = "noise") -> Tensor:
        """Standard normal noise of the shape of samples, drawn on the CPU."""
        return torch.randn(like.shape, generator=runtime.generator(purpose)).to(like)

    def step(self, state: Any, runtime: Runtime) -> Metrics:
        """One batch."""
        batch = self.drawn(state, runtime)
        state.student.train()
        set_lr(state.optimizer, self.lr_at(state.done))
        with same_dropout(state.student, runtime)(), shared_calls(state, runtime):
            loss = self.loss(batch, state, runtime)
        self.descend(loss, state.student, state.optimizer, runtime)
        self.settle(state)
        state.done += 1
        return {"loss": loss.detach(), **self.seen(state, runtime)}

    def descend(self, loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer, runtime: Runtime) -> None:
        """One step of an optimiser on a loss, which all processes have computed together."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        Share(self.batch, runtime.processes).add_gradients(module.parameters(), joined=True)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(list(module.parameters()), self.clip_norm)
        optimizer.step()

    @torch.no_grad()
    def settle(self, state: Any) -> None:
        """Move the average of the weights."""
        if state.average is None:
            return
        decay = min(self.weights_average, (1 + state.done) / (10 + state.done))
        mine: list[Tensor] = list(state.average.parameters())
        theirs: list[Tensor] = list(state.student.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - decay)

    def seen(self, state: Any, runtime: Runtime) -> dict[str, float]:
        """The last scores while training, new after every so many steps: not every step is logged."""
        if self.watch and state.done % self.watch == 0:
            from attar.samplers.watching import watched

            found = watched(self.result(state, runtime), state.work.source, runtime)
            state.watched = {name: found.get(name) for name in WATCHED}
        return {name: value for name, value in state.watched.items() if value is not None}

    def result(self, state: Any, runtime: Runtime) -> Sampler:
        """The sampler as it is now."""
        source, teacher = state.work.source, state.work.teacher
        denoiser = kept(state.kept)
        origin = Origin.made(
            state.work,
            self,
            runtime,
            parameters=parameter_count(denoiser),
            teacher=None if teacher is None else parameter_count(teacher.denoiser),
            teacher_calls=None if teacher is None else teacher.calls,
        )
        make = Sampler if teacher is None else teacher.student
        return make(
            denoiser=denoiser,
            network=self.network_of(state.work),
            grid=self.levels,
            shape=source.shape,
            classes=source.classes,
            class_shares=source.class_shares,
            pictures=source.pictures,
            origin=origin,
            **self.form(state),
        )

    def network_of(self, work: Work) -> str | None:
        """The network of the result, by words."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Student(SamplerMethod):
    """Settings of the methods that distil a teacher into a sampler of a few steps."""

    calls: Annotated[int, Range(1, 1000)] = 1
    """Number of calls of the student's network for a sample."""

    verb = "distill"
    needs_teacher = True
    needs_means = True
    """Whether the teacher must predict mean clean samples, as diffusion models do and students of few steps do not."""

    def resolve(self, work: Work, runtime: Runtime) -> Self:
        """The same settings with what follows from data and teacher filled in.

        Raises:
            InputError: There is no teacher, it makes samples of another shape or of other classes than the data have,
                or it is a student of few steps where a diffusion model is needed.
        """
        teacher, source = work.teacher, work.source
        if teacher is None:
            raise InputError(f"{self.name} needs a teacher. Give --teacher.")  # type: ignore[attr-defined]
        check_alike("the teacher", teacher, source)
        if self.needs_means and teacher.solver == "few-step":
            name: str = self.name  # type: ignore[attr-defined]
            raise InputError(
                f"the teacher is a student of few steps (by {teacher.origin.method}), but {name} needs a diffusion "
                "model. Give its own teacher, or use pairs for a teacher of one call."
            )
        return super().resolve(work, runtime)

    def started(self, work: Work, runtime: Runtime) -> Denoiser:
        """A copy of the teacher in the boundary form."""
        assert work.teacher is not None
        return work.teacher.denoiser.student(self.levels.ends[0])

    def network_of(self, work: Work) -> str | None:
        """That of the teacher."""
        assert work.teacher is not None
        return work.teacher.network

    def form(self, state: Any) -> dict[str, Any]:
        """Few steps, with fresh noise between them."""
        given = tuple(self.levels.few(self.calls).tolist())
        return {"solver": "few-step", "steps": self.calls, "given": given, "floor": self.levels.ends[0]}

    def condition(self, state: Any, runtime: Runtime, count: int, purpose: str = "labels") -> Condition:
        """Conditions of so many samples, drawn as the data have them."""
        return state.work.conditions(count, runtime.generator(purpose), runtime.device)


def shared_calls(state: Any, runtime: Runtime) -> AbstractContextManager[None]:
    """Where several processes divide the samples of each call of a state's denoisers."""
    found = {id(one): one for name, one in vars(state).items() if isinstance(one, Denoiser) and name != "average"}
    return divided(runtime.processes, *found.values(), methods=("forward", "encoded"))


def same_dropout(network: nn.Module, runtime: Runtime) -> Alike:
    """Where networks are called with the same dropout each time it is entered; another one each time it is made."""
    if not any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in network.modules()):
        return nullcontext
    seed = int(torch.randint(2**62, (), generator=runtime.generator("dropout")))
    return lambda: seeded_by(seed, runtime.device)
