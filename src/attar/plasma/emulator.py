"""A small network that answers in place of a code of radiative transfer: distilled from the profiles of many columns.

A code that solves the statistical equilibrium of a line takes a tenth of a second or minutes for a column. The student
sees the same column (T, n_H, v and depth on 64 points) and gives the profile at once. Prefer it where maps of many
columns are wanted, or gradients with respect to them, and columns like those of the training are. It gives log10 of
the intensity; what is chosen, the step at which training stops, is chosen on a tenth of the training columns. Since
the teacher is what costs, `subset` asks which few columns are worth its time: chosen before it answers.

Chappell and Pereira, SunnyNet: A neural network approach to 3D non-LTE radiative transfer, A&A 2022, arXiv:2112.13852.
Theirs is a convolutional network too; it learns populations on a column and its neighbours, and a code gives the
profiles. Here the profile itself is learned.
"""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attar.core.dividing import divided
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.selection import herding, k_center, shuffled
from attar.core.settings import Hidden, Range, Settings, Words
from attar.core.sharing import Share
from attar.core.state import rebuilt
from attar.core.training import adamw, half_cosine, next_rows, set_lr
from attar.plasma.answers import AnsweredColumns, Asked, answered
from attar.plasma.artefact import Run
from attar.plasma.columns import Answers, Columns, Origin
from attar.plasma.emulated import Emulator, own_network
from attar.plasma.features import CHANNELS, VELOCITY, Scaling, channels_of, step_of
from attar.plasma.network import network_named
from attar.plasma.profile_errors import rms_over_peak
from attar.plasma.reading import called
from attar.plasma.teachers import teacher_named
from attar.plasma.threads import RandomThreads

Rows = Int[Tensor, " _row"]
TENTH = 0.1
"""Share of the training columns on which the end of the training is chosen."""


@dataclass(frozen=True)
class Lessons:
    """What a student learns from: the columns that were chosen, with their profiles."""

    columns: Columns
    """Answered, and all for training."""
    rows: Rows
    """Which columns of the data were chosen; those that did not converge are left out of `columns`."""
    whole: str
    """A digest of all columns of the data."""
    fingerprint: str
    """A digest of them and of what tells their teacher from others."""
    module: Any = None
    """A student of the caller's own."""

    @property
    def name(self) -> str:
        """That of the data."""
        return self.columns.name

    @property
    def answers(self) -> Answers:
        """The profiles, and what belongs to them."""
        return self.columns.known

    def __str__(self) -> str:
        return str(self.columns)


@dataclass
class Learning:
    """A student in training, and the best it has been."""

    student: nn.Module
    best: nn.Module
    """As it was when it was best on the tenth."""
    optimizer: torch.optim.Optimizer
    order: Rows
    """Rows of the present pass."""
    error: float | None = None
    """rms/peak on the tenth, the last that was measured."""
    least: float | None = None
    """The smallest."""
    done: int = 0
    lessons: Lessons = rebuilt(default=None)
    scaling: Scaling = rebuilt(default=None)
    inputs: Float[Tensor, "column channel point"] = rebuilt(default=None)
    targets: Float[Tensor, "column wavelength"] = rebuilt(default=None)
    weights: Float[Tensor, "column wavelength"] = rebuilt(default=None)
    train: Rows = rebuilt(default=None)
    tenth: Rows = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class LineEmulator(Settings):
    """Distil a code of radiative transfer into a small network (Chappell and Pereira, A&A 2022, arXiv:2112.13852)."""

    student: Annotated[Any, Words()] = "cnn"
    """The student. Network by words: cnn, or cnn:width=64,depth=3,kernel=5."""
    subset: Annotated[int, Range(2)] | None = None
    """Number of training columns that the student learns from. Default: all."""
    chosen_by: Literal["random", "k-center", "herding"] = "random"
    """Selection method that chooses the subset, from the columns alone: random, k-center or herding."""
    steps: Annotated[int, Range(1)] = 1500
    """Steps in all."""
    batch: Annotated[int, Range(1)] = 32
    """Batch size: columns per step."""
    lr: Annotated[float, Range(0)] = 2e-3
    """Step size (learning rate), which falls to zero by half a cosine."""
    weight_decay: Annotated[float, Range(0)] = 1e-4
    """Weight decay."""
    floor: Annotated[float, Range(1e-12, 1)] = 1e-3
    """Intensity, as a share of the median peak, below which all intensities count as equal to it."""
    peak_weight: Annotated[float, Range(0)] = 4.0
    """Weight of the errors relative to a profile's peak, beside those of the logarithm."""
    move_with_gas: bool = True
    """Whether the student relies on what holds where no light falls on a column from outside: its profile moves with
    the gas, and a mirrored velocity mirrors it. Not for wavelengths that are not equally spaced."""
    watch: Annotated[int, Range(1)] = 100
    """Interval between scores while training, in steps: rms/peak on a tenth of the columns. The best
    weights are kept."""
    columns: Annotated[int, Hidden()] = 0
    """Number of columns that are learned from; filled in."""

    kind = "plasma"
    name = "emulator"
    verb = "distill"
    shares = True

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return self.steps

    def prepared(self, source: Any, task: Any, runtime: Runtime) -> Lessons:
        """The chosen columns, with the answers of the teacher.

        Raises:
            InputError: The data are no columns, there is no such teacher, or it is not theirs.
        """
        columns = columns_in(source, runtime)
        if columns.answers is not None and task.teacher not in (None, columns.answers.teacher):
            raise InputError(
                f"the columns of {columns.name} have profiles by {columns.answers.teacher}, not by {task.teacher}. "
                "Leave out --teacher, or make others: attar simulate columns --data FOLDER --teacher NAME"
            )
        rows = self.chosen(columns, runtime)
        lessons, data = columns.subset(rows), columns.fingerprint
        if lessons.answers is None:
            teacher = teacher_named(task.teacher)
            if teacher is None:
                raise InputError(f"the columns of {columns.name} have no profiles, and teacher is none. Give another.")
            data = Asked(columns, teacher, columns.inputs).fingerprint
            lessons = answered(lessons, teacher, runtime).converged
        module = None if task.module is None else copy.deepcopy(task.module)
        return Lessons(lessons, rows, columns.inputs, data, module)

    def chosen(self, columns: Columns, runtime: Runtime) -> Rows:
        """The rows of the training columns that are learned from.

        Raises:
            InputError: There are fewer than are asked for, or fewer than two.
        """
        rows = columns.train_rows
        if len(rows) < max(2, self.subset or 0):
            asked = "two or more are needed" if self.subset is None else f"subset is {self.subset}"
            lost = int((~columns.usable).sum())
            told = f" ({lost} of {len(columns)} did not converge)" if lost else ""
            raise InputError(f"{columns.name} has {len(rows)} training columns that can be used{told}, but {asked}.")
        if self.subset is None or self.subset == len(rows):
            return rows
        if self.chosen_by == "random":
            return shuffled(rows, runtime.generator("subset"))[: self.subset].sort().values
        select = k_center if self.chosen_by == "k-center" else herding
        return rows[select(flat(columns.values[rows]), self.subset)].sort().values

    def resolve(self, lessons: Lessons, runtime: Runtime) -> Self:
        """The same settings with the number of columns filled in."""
        return dataclasses.replace(self, columns=len(lessons.columns))

    def work(self, lessons: Lessons) -> float:
        """The network is too small for compiling to pay."""
        return 0.0

    # ------------------------------------------------------------------------------------------------------ training

    def build(self, lessons: Lessons, runtime: Runtime) -> Learning:
        """The state before the first step.

        Raises:
            InputError: There is no such network, or a module of the caller's own does not take the columns.
        """
        columns, answers = lessons.columns, lessons.answers
        step = step_of(answers.wavelengths) if self.move_with_gas else 0.0
        scaling = Scaling.of(columns.values, answers.profiles, self.floor, step)
        targets = scaling.targets(answers.profiles, columns.values)
        shape = columns.points, len(answers.wavelengths)
        if lessons.module is not None:
            student = own_network(lessons.module, *shape)
            if not student(torch.zeros(2, len(CHANNELS), columns.points)).requires_grad:
                raise InputError("the student does not learn: what it gives does not depend on parameters of its own.")
        else:
            student = network_named(str(self.student), *shape, runtime.generator("network"))
        student.to(runtime.device)
        mixed = shuffled(torch.arange(len(columns)), runtime.generator("tenth"))
        held = max(1, round(TENTH * len(mixed)))
        optimizer = adamw(list(student.parameters()), self.lr, weight_decay=self.weight_decay)
        return Learning(
            student,
            copy.deepcopy(student).requires_grad_(False),
            optimizer,
            torch.zeros(len(mixed) - held, dtype=torch.long),
            lessons=lessons,
            scaling=scaling,
            inputs=scaling.inputs(columns.values).to(runtime.device),
            targets=targets.to(runtime.device),
            weights=peak_weights(10 ** (targets.double() * scaling.spread + scaling.mean)).to(runtime.device),
            train=mixed[held:],
            tenth=mixed[:held],
        )

    def step(self, state: Learning, runtime: Runtime) -> Metrics:
        """One batch, and now and then a look at the tenth."""
        rows = state.train[next_rows(state.order, state.done, self.batch, runtime.generator("batches"))]
        set_lr(state.optimizer, self.lr * half_cosine(state.done, self.steps))
        state.student.train()
        state.optimizer.zero_grad(set_to_none=True)
        inputs, targets, weights = state.inputs[rows], state.targets[rows], state.weights[rows]
        if state.scaling.step:
            sides = torch.rand(len(rows), generator=runtime.generator("mirrors")) < 0.5
            inputs, targets, weights = mirrored(sides.to(runtime.device), inputs, targets, weights)
        with divided(runtime.processes, state.student):
            loss = self.loss(state.student(inputs), targets, weights)
        loss.backward()
        Share(len(rows), runtime.processes).add_gradients(state.student.parameters(), joined=True)
        state.optimizer.step()
        state.done += 1
        if state.done % self.watch == 0 or state.done == self.steps:
            self.look(state)
        found = {"loss": loss.detach()}
        return found if state.error is None else {**found, "rms_over_peak": state.error}

    def loss(
        self,
        outputs: Float[Tensor, "column wavelength"],
        targets: Float[Tensor, "column wavelength"],
        weights: Float[Tensor, "column wavelength"],
    ) -> Float[Tensor, ""]:
        """Mean squared error of the logarithm, and of the logarithm times I over its peak, which is that of I."""
        plain = F.mse_loss(outputs, targets)
        return plain + self.peak_weight * ((outputs - targets) * weights).square().mean()

    @torch.no_grad()
    def look(self, state: Learning) -> None:
        """Measure the student on the tenth, and keep it if it was never better."""
        state.student.eval()
        outputs = state.student(state.inputs[state.tenth]).cpu()
        profiles = state.scaling.profiles(outputs, state.lessons.columns.values[state.tenth]).numpy()
        teacher = state.lessons.answers.profiles[state.tenth].numpy()
        state.error = float(np.median(rms_over_peak(profiles, teacher)))
        if state.least is None or state.error < state.least:
            state.least = state.error
            state.best.load_state_dict(state.student.state_dict())

    def result(self, state: Learning, runtime: Runtime) -> Emulator:
        """The best student so far."""
        lessons, answers = state.lessons, state.lessons.answers
        return Emulator(
            network=copy.deepcopy(state.best).cpu().eval(),
            words=None if lessons.module is not None else str(self.student),
            scaling=state.scaling,
            wavelengths=answers.wavelengths,
            points=lessons.columns.points,
            rows=lessons.rows,
            whole=lessons.whole,
            teacher=answers.teacher,
            line=answers.line,
            note=answers.note,
            seconds={"teacher": answers.seconds, "student": None},
            origin=Origin.made(lessons, self, runtime),
        )


def columns_in(source: Any, runtime: Runtime) -> Columns:
    """The columns of data: as they are, or random threads by their usual settings, which have the seed 0.

    Raises:
        InputError: They are no columns.
    """
    if isinstance(source, Columns):
        return source
    if isinstance(source, RandomThreads):
        return AnsweredColumns().drawn(source, runtime.with_seed(0))
    how = "Make some of it: attar simulate columns --data FOLDER"
    right = how if isinstance(source, Run) else "Give threads, or the folder of columns."
    raise InputError(f"an emulator takes columns, and this is {called(source)}. {right}")


def flat(values: Float[Tensor, "column 4 point"]) -> Float[Tensor, "column feature"]:
    """Columns as rows of standardised numbers, by which they are compared."""
    channels = channels_of(values)
    centre, scale = channels.mean(dim=(0, 2), keepdim=True), channels.std(dim=(0, 2), keepdim=True).clamp_min(1e-6)
    return ((channels - centre) / scale).flatten(1)


def mirrored(
    sides: Bool[Tensor, " column"],
    inputs: Float[Tensor, "column channel point"],
    *profiles: Float[Tensor, "column wavelength"],
) -> tuple[Tensor, ...]:
    """Inputs and profiles, in which some columns have the opposite velocity and the mirrored profile."""
    signs = torch.ones(inputs.shape[:2], device=inputs.device)
    signs[sides, VELOCITY] = -1
    return inputs * signs[:, :, None], *(torch.where(sides[:, None], one.flip(1), one) for one in profiles)


def peak_weights(profiles: Float[Tensor, "column wavelength"]) -> Float[Tensor, "column wavelength"]:
    """Each intensity as a share of the peak of its profile, scaled to a mean square of 1 over all columns."""
    share = profiles / profiles.amax(dim=1, keepdim=True).clamp_min(1e-300)
    return (share / share.square().mean().sqrt()).float()
