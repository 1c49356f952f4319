"""Shared parts of trajectory matching: a student starts at an expert's parameters and has to reach its later ones.

Each step takes an expert and a start epoch, and trains a student on the synthetic images from the expert's parameters.
Then it updates the images (also the step size and soft labels) so that the student ends nearer to the expert's
parameters some epochs later. The methods differ in their experts, in the students' starts, in the loss, and in the
labels.
Cazenavette, Wang, Torralba, Efros and Zhu, Dataset Distillation by Matching Training Trajectories, CVPR 2022,
arXiv:2203.11932.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.selection import PerClass, labels_of, per_class
from attar.core.sending import sent
from attar.core.settings import Range, Role
from attar.core.state import rebuilt
from attar.core.training import next_rows
from attar.images import layout
from attar.images.artefact import CondensedImages
from attar.images.condense.adjoint import Batch, Matched, Student, Task, Way, Waypoint, check_way, match
from attar.images.condense.starts import Started, check_start, learned, start_images
from attar.images.expert_pool import Pool, open_experts
from attar.images.experts import Experts, flat_network
from attar.images.networks.architecture import Architecture, multiply_adds
from attar.images.networks.flat import FlatNetwork, Vector
from attar.images.sources import ImageSource
from attar.images.views.augment import default_strategy, draw_batch, strategy

Images = Float[Tensor, "image channel height width"]
LabelLogits = Float[Tensor, "image classes"]

LATEST_START = {1: 5, 10: 20, 50: 40}
"""Default bound on start epochs by images per class. Few images can teach only what experts learn early."""


LOOKS_AFTER = 10
"""Steps between two looks at the learned step size."""


@dataclass
class Distilling:
    """The synthetic images during learning, with the step size and labels that are learned too."""

    images: Tensor
    lr: Tensor
    """β, or its logarithm if the logarithm is learned."""
    label_logits: Tensor | None
    optimizers: dict[str, torch.optim.SGD]
    average: Tensor | None
    order: Tensor
    """The experts of this round, shuffled."""
    extra: dict[str, Tensor] = field(default_factory=dict)
    """Further tensors that a method keeps."""
    done: int = 0
    labels: Tensor = rebuilt(default=None)
    classes: Tensor = rebuilt(default=None)
    """The labels, on the device."""
    source: Any = rebuilt(default=None)
    pool: Pool = rebuilt(default=None)
    observer: Any = rebuilt(default=None)
    """The observer network, if the method has one."""
    flat: FlatNetwork = rebuilt(default=None)
    student: Student = rebuilt(default=None)
    told: bool = rebuilt(default=False)
    """Whether it was said that β is not positive."""


@dataclass(frozen=True, kw_only=True)
class TrajectoryMatching(Started):
    """Settings and loop that MTT and its descendants share.

    Memory is that of one student step's second-order graph and a parameter vector for each of its steps.
    """

    steps: Annotated[int, Range(1)] | None = None
    """Steps in all. Each trains a student and updates the images once. Default: 5,000 on a GPU, 300 on a CPU."""
    student_steps: Annotated[int, Range(0)] | None = None
    """Number of training steps of a student on the synthetic images, T. Default: 20, but at most the number of steps of
    an expert over the span, so that a student on small data does not overshoot."""
    span: Annotated[int, Range(1)] = 2
    """Number of epochs of the expert that a student has to cover, M."""
    first_start: Annotated[int, Range(0)] = 0
    """First epoch of the expert from which students start, T⁻."""
    last_start: Annotated[int, Range(1)] | None = None
    """Epoch of the expert before which students start, T⁺. Default: 5 below ten images per class, 20 below fifty, 40
    from fifty on."""
    grow_from: Annotated[int, Range(1)] | None = None
    """Bound on the start epochs at the first step. It grows to --last-start. Default: --last-start from the first
    step."""
    grow_over: Annotated[int, Range(1)] = 1000
    """Number of steps over which the bound on the start epochs grows to --last-start."""
    batch: Annotated[int, Range(1)] | None = None
    """Batch size of a student's steps, in synthetic images. Default: all synthetic images."""
    lr: Annotated[float, Range(0)] = 100.0
    """Step size on pixels. 10² to 10⁴ is usual, because the loss is divided by a large norm."""
    momentum: Annotated[float, Range(0, 1)] = 0.5
    """Momentum of the updates of the images and of the student's step size."""
    student_momentum: Annotated[float, Range(0, 1)] = 0.0
    """Momentum of the student's training."""
    student_lr: Annotated[float, Range(0)] | None = None
    """Initial step size of the student, β. Default: the experts' step size."""
    lr_lr: Annotated[float, Range(0)] = 1e-5
    """Step size of the updates of β, the student's step size."""
    learn_lr: Literal["plain", "log", "clamped", "off"] = "plain"
    """Way in which β is learned. plain: as it is; it may become negative, as in the code, and then no network can be
    trained on the set. log: as its logarithm. clamped: it stays above 10⁻⁶. off: it is not learned."""
    gradient: Way = "adjoint"
    """Gradient of a student's training. adjoint: exact, in the memory of one step. unrolled: exact, with the graph of
    all steps. tesla: TESLA's truncated gradient."""
    labels: Literal["hard", "soft"] = "hard"
    """Labels that the images get: classes (hard), or logits that start from the experts' and are learned (soft)."""
    label_lr: Annotated[float, Range(0)] = 2.0
    """Step size on label logits."""
    label_momentum: Annotated[float, Range(0, 1)] = 0.9
    """Momentum of the updates of the label logits."""
    gate: Annotated[float, Range(0)] | None = None
    """Largest loss that still updates the images, the labels and β. Default: none."""
    average: Annotated[float, Range(0, 1)] | None = None
    """Decay of a moving average of the images, which then is the result. Default: none."""
    zca: bool = False
    """Whether images are ZCA-whitened (ε = 0.1, on pixels in [0, 1]). The whitening is fitted once on the real training
    images."""
    architecture: Architecture = field(default_factory=Architecture)
    """The network of experts and students."""
    augmentation: str | None = None
    """DSA operations joined by underscores, or none, for experts and students. Default: the field's six operations,
    five for digits."""
    experts: Annotated[Experts, Role()] = field(default_factory=Experts)
    """Training of the experts, and the folder that holds them."""

    name = "trajectory-matching"
    shares = True

    # What methods override.

    @property
    def drop(self) -> float:
        """Share of the parameters, those nearest to the target, that are removed from the loss; here 0."""
        return 0.0

    def initial(self, state: Distilling, runtime: Runtime) -> tuple[Images, LabelLogits | None]:
        """Initial images; if labels are soft, also label logits: the mean logits of experts that are correct."""
        images = start_images(self.start, self.ipc, state.source, runtime)
        return images, expert_labels(images, state, runtime) if self.labels == "soft" else None

    def departure(self, vector: Vector, state: Distilling, runtime: Runtime) -> Vector:
        """The student's initial parameters, given the expert's; here they are the expert's."""
        return vector

    def waypoints(self, state: Distilling, expert: int, epoch: int, runtime: Runtime) -> dict[int, Waypoint]:
        """Targets by number of steps; here the expert's parameters `span` epochs later, at the last step."""
        target = state.pool.vector(expert, epoch + self.span, runtime.device)
        assert self.student_steps is not None, "resolve the settings first"
        return {self.student_steps: Waypoint(target)}

    def scale(self, epoch: int) -> float:
        """Factor of the student's loss for a start epoch; here 1."""
        return 1.0

    def targets(self, state: Distilling, expert: int, epoch: int, runtime: Runtime) -> Tensor:
        """The labels that students learn: the classes, or the current label logits."""
        return state.classes if state.label_logits is None else state.label_logits

    def prepare(self, state: Distilling, runtime: Runtime) -> None:
        """Work before a step; here there is none."""

    def corrected(self, found: Matched, state: Distilling, runtime: Runtime) -> Images:
        """The images' gradient for the update; here it is unchanged."""
        return found.images

    # The loop.

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the settings without a value from image size, ipc and device.

        Raises:
            InputError: There is no start epoch to draw, experts are trained for too few epochs, or several processes
                cannot share the way in which students are differentiated.
        """
        check_way(self.gradient, runtime)
        on_gpu = runtime.device.type != "cpu"
        augmentation = default_strategy(source.flips) if self.augmentation is None else self.augmentation
        strategy(augmentation)
        if self.start in START_NAMES:
            check_start(self.start, self.ipc, source)
        fewest = min(self.counts(source))
        last = self.last_start or LATEST_START[max(n for n in LATEST_START if n <= max(fewest, 1))]
        if self.student_lr == 0 and self.learn_lr == "log":
            raise InputError("student_lr is 0, which has no logarithm; give another --student-lr or --learn-lr.")
        if self.first_start >= last:
            raise InputError(f"first_start is {self.first_start}; it must be below last_start, {last}.")
        needed = last - 1 + self.span
        epochs = self.experts.epochs or needed
        if epochs < needed:
            raise InputError(
                f"experts have {epochs} epochs, but students follow them up to epoch {needed}; raise --experts.epochs."
            )
        count = self.experts.experts or (100 if on_gpu else 10)
        taken = self.span * -(-len(source.train) // self.experts.batch)
        return replace(
            self,
            steps=self.steps or (5000 if on_gpu else 300),
            student_steps=min(20, taken) if self.student_steps is None else self.student_steps,
            last_start=last,
            batch=self.batch or sum(self.counts(source)),
            student_lr=self.experts.lr if self.student_lr is None else self.student_lr,
            augmentation=augmentation,
            architecture=self.architecture.resolve(source.shape),
            experts=replace(self.experts, experts=count, epochs=epochs),
        )

    @property
    def total_steps(self) -> int:
        """Number of students in all."""
        assert self.steps is not None, "resolve the settings first"
        return self.steps

    def work(self, source: ImageSource) -> float:
        """Multiply-adds of the students: a gradient in each step forward, a second derivative in each step back."""
        assert self.batch is not None and self.student_steps is not None, "resolve the settings first"
        network = self.architecture.build(source.shape, len(source.classes), torch.Generator())
        images = min(self.batch, sum(self.counts(source))) * self.student_steps
        return 12.0 * multiply_adds(network, source.shape) * images * self.total_steps

    def build(self, source: ImageSource, runtime: Runtime) -> Distilling:
        """Find or train the experts; set up the synthetic images at their start, and the student."""
        assert self.experts.epochs is not None and self.student_lr is not None, "resolve the settings first"
        if self.zca:
            source = source.whitened(raw=True)
        pool = open_experts(
            source,
            self.architecture,
            self.augmentation or "none",
            self.experts,
            self.experts.epochs,
            runtime,
        )
        flat = flat_network(self.architecture, source, runtime)
        lr = math.log(self.student_lr) if self.learn_lr == "log" else self.student_lr
        labels = labels_of(self.ipc, len(source.classes))
        state = Distilling(
            images=torch.empty(0),
            lr=torch.tensor(lr, device=runtime.device).requires_grad_(),
            label_logits=None,
            optimizers={},
            average=None,
            order=torch.arange(len(pool)),
            labels=labels,
            classes=labels.to(runtime.device),
            source=source,
            pool=pool,
            flat=flat,
        )
        images, logits = self.initial(state, runtime)
        state.images = images.to(runtime.device).clone().requires_grad_()
        state.label_logits = None if logits is None else logits.to(runtime.device).clone().requires_grad_()
        state.average = None if self.average is None else state.images.detach().clone()
        state.optimizers = self._optimizers(state)
        at_once = layout.at_once(source.shape, runtime)
        state.student = Student(flat, runtime, soft=logits is not None, at_once=at_once)
        return state

    def _optimizers(self, state: Distilling) -> dict[str, torch.optim.SGD]:
        found = {"images": torch.optim.SGD([state.images], self.lr, momentum=self.momentum)}
        if self.learn_lr != "off":
            found["lr"] = torch.optim.SGD([state.lr], self.lr_lr, momentum=self.momentum)
        if state.label_logits is not None and self.labels == "soft":
            found["labels"] = torch.optim.SGD([state.label_logits], self.label_lr, momentum=self.label_momentum)
        return found

    def step(self, state: Distilling, runtime: Runtime) -> Metrics:
        """Train one student, and update images, step size and labels by the gradient of its distance."""
        self.prepare(state, runtime)
        expert = int(next_rows(state.order, state.done, 1, runtime.generator("experts")))
        epoch = self._epoch(state, runtime)
        start = self.departure(state.pool.vector(expert, epoch, runtime.device), state, runtime)
        task = Task(
            start=start,
            batches=sent(list(self._batches(len(state.images), runtime)), runtime.device),
            waypoints=self.waypoints(state, expert, epoch, runtime),
            momentum=self.student_momentum,
            scale=self.scale(epoch),
            drop=self.drop,
        )
        targets = self.targets(state, expert, epoch, runtime)
        lr = state.lr.detach().exp() if self.learn_lr == "log" else state.lr.detach()
        found = match(state.student, state.images, targets, lr, task, self.gradient)
        if self.gate is None or float(found.loss) <= self.gate:
            self._update(state, found, lr, runtime)
        state.done += 1
        self._warn(state, runtime)
        return {"loss": found.loss, "student_lr": lr, "epoch": float(epoch)}

    def _warn(self, state: Distilling, runtime: Runtime) -> None:
        """Say once that β is not positive. It is looked at now and then, since a look makes a GPU wait."""
        looks = state.done % LOOKS_AFTER == 0 or state.done == self.steps
        if looks and self.learn_lr == "plain" and not state.told and (lr := float(state.lr.detach())) <= 0:
            runtime.say(
                f"note: the student's step size became {lr:.3g} at step {state.done:,}. Unless it becomes positive "
                "again, no network can be trained on the set. Start again with --learn-lr log."
            )
            state.told = True

    def _epoch(self, state: Distilling, runtime: Runtime) -> int:
        """A random start epoch, uniform below a bound that may grow."""
        assert self.last_start is not None
        bound = self.last_start
        if self.grow_from is not None:
            bound = min(bound, self.grow_from + (bound - self.grow_from) * state.done // self.grow_over)
        bound = max(bound, self.first_start + 1)
        return int(torch.randint(self.first_start, bound, (), generator=runtime.generator("epochs")))

    def _batches(self, images: int, runtime: Runtime) -> Iterator[Batch]:
        """The batch and augmentation of each step of a student: shuffled passes over all images, cut in batches."""
        assert self.batch is not None and self.student_steps is not None
        operations, queue = strategy(self.augmentation or "none"), list[Tensor]()
        for _ in range(self.student_steps):
            if not queue:
                order = torch.randperm(images, generator=runtime.generator("batches"))
                queue = list(order.split(self.batch))
            rows = queue.pop()
            draw = draw_batch(len(rows), operations, runtime.generator("augment")) if operations else None
            yield Batch(rows, draw)

    def _update(self, state: Distilling, found: Matched, lr: Tensor, runtime: Runtime) -> None:
        state.images.grad = self.corrected(found, state, runtime)
        state.lr.grad = found.lr * lr if self.learn_lr == "log" else found.lr
        if state.label_logits is not None:
            state.label_logits.grad = found.targets
        for optimizer in state.optimizers.values():
            optimizer.step()
        if self.learn_lr == "clamped":
            with torch.no_grad():
                state.lr.clamp_min_(1e-6)
        if state.average is not None and self.average is not None:
            state.average.lerp_(state.images.detach(), 1 - self.average)

    def result(self, state: Distilling, runtime: Runtime) -> CondensedImages:
        """The current images with labels and step size."""
        labels = state.labels if state.label_logits is None else state.label_logits.detach().softmax(dim=1).cpu()
        lr = float(state.lr.detach().exp() if self.learn_lr == "log" else state.lr.detach())
        images = state.images if state.average is None else state.average
        return learned(images, labels, state.source, self, runtime, lr=lr)


START_NAMES = ("real", "noise", "class-mean", "herding", "k-center", "k-means")


@torch.no_grad()
def expert_logits(images: Images, expert: int, state: Distilling, runtime: Runtime) -> LabelLogits:
    """Logits of an expert after its last epoch."""
    vector = state.pool.vector(expert, state.pool.epochs, runtime.device)
    parts = images.split(layout.at_once(state.source.shape, runtime))
    found = [state.flat.logits(vector, part.to(runtime.device)).float().cpu() for part in parts]
    return torch.cat(found)


def expert_labels(images: Images, state: Distilling, runtime: Runtime) -> LabelLogits:
    """The mean logits of the experts that classify an image correctly, or of all experts if none does."""
    answers = torch.stack([expert_logits(images, expert, state, runtime) for expert in range(len(state.pool))])
    right = (answers.argmax(dim=2) == state.labels).float()
    right = torch.where(right.sum(dim=0) > 0, right, torch.ones_like(right))
    return (answers * right.unsqueeze(2)).sum(dim=0) / right.sum(dim=0).unsqueeze(1)


def recognised(state: Distilling, ipc: PerClass, runtime: Runtime) -> Int[Tensor, " image"]:
    """Random training rows of each class: first those that the first expert classifies correctly, then the next's."""
    chosen = []
    for label, (rows, count) in enumerate(
        zip(state.source.rows_of, per_class(ipc, len(state.source.classes)), strict=True)
    ):
        left = rows[torch.randperm(len(rows), generator=runtime.generator("start"))]
        taken = left[:0]
        for expert in range(len(state.pool)):
            answers = expert_logits(state.source.inputs(left), expert, state, runtime).argmax(dim=1)
            taken, left = torch.cat([taken, left[answers == label]]), left[answers != label]
            if len(taken) >= count:
                break
        chosen.append(torch.cat([taken, left])[:count])
    return torch.cat(chosen)
