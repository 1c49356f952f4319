"""A student's training as a function of its training data, and the gradient of its distance to an expert.

The student takes T steps θ_{i+1} = θ_i - β v_i, v_i = μ v_{i-1} + g_i, where g_i is the gradient of its loss on the
i-th batch. There are three ways to differentiate its final distance to the expert in the batches. One can keep the
graph of all steps (Cazenavette et al., MTT). One can assume that no step depends on earlier steps (Cui et al., TESLA);
from two steps on that is a different gradient. Or one can go back through the steps one at a time, which is exact and
needs the graph of one step:

    κ_i = μ κ_{i+1} - λ_{i+1},  s_i = ⟨κ_i, g_i(θ_i, x_i, y_i)⟩,
    ∂/∂x_i = β ∂s_i/∂x_i,  ∂/∂y_i = β ∂s_i/∂y_i,  ∂/∂β = Σ s_i,  λ_i = λ_{i+1} + β ∂s_i/∂θ_i (+ a waypoint's at θ_i),

where λ_i is the derivative in θ_i. Only θ_0 ... θ_T are kept.

g_i, s_i and their derivatives are sums over the images of a batch, so several processes share each batch. The graph of
all steps cannot be divided in this way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad, grad_and_value

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.sharing import Share
from attar.images import layout
from attar.images.networks.flat import FlatNetwork, Images, Vector
from attar.images.views.augment import Draw, augment

Targets = Int[Tensor, " image"] | Float[Tensor, "image classes"]
"""Class numbers, or the logits of soft labels."""
Way = Literal["adjoint", "unrolled", "tesla"]


@dataclass(frozen=True)
class Batch:
    """The batch of one step: rows of the synthetic images, and their augmentation."""

    rows: Int[Tensor, " batch"]
    draw: Draw | None = None


@dataclass(frozen=True)
class Waypoint:
    """A target for the student after some steps, and its weight in the loss."""

    target: Vector
    weight: float = 1.0
    keep: Float[Tensor, " parameter"] | None = None
    """Mask of the parameters in the loss: 1 to keep, 0 to remove. Default: all are kept."""


@dataclass(frozen=True)
class Task:
    """A student's training and its targets."""

    start: Vector
    batches: Sequence[Batch]
    waypoints: Mapping[int, Waypoint]
    """Targets by the number of steps before them."""
    momentum: float = 0.0
    scale: float = 1.0
    """Factor of the student's loss."""
    drop: float = 0.0
    """Share of the parameters, those nearest to the last waypoint, that are removed from its loss."""


@dataclass
class Matched:
    """The student's distance to its targets, and the gradients of that distance."""

    loss: Float[Tensor, ""]
    images: Images
    targets: Tensor | None
    lr: Float[Tensor, ""]
    terms: dict[int, Float[Tensor, ""]] = field(default_factory=dict)
    """The distance at each waypoint, relative to the distance at the start."""


class Student:
    """A network's training steps and their derivatives, computed on a few images at a time."""

    def __init__(self, flat: FlatNetwork, runtime: Runtime, *, soft: bool, at_once: int) -> None:
        self.flat, self.runtime, self.soft, self.at_once = flat, runtime, soft, at_once
        wanted = (0, 1, 2) if soft else (0, 1)
        self._gradient = runtime.compiled(partial(student_gradient, flat), training=True)
        self._pull = runtime.compiled(partial(pull, flat, wanted), training=True)

    def gradient(self, vector: Vector, images: Images, targets: Targets, scale: float, of: int = 0) -> Vector:
        """The part of some images in the gradient of the mean loss over a batch `of` so many, times scale."""
        weight = self._weight(images, scale, of)
        parts = zip(images.split(self.at_once), targets.split(self.at_once), strict=True)
        gradients = [self._gradient(vector, *part, weight) for part in parts]
        return torch.stack(gradients).sum(dim=0) if len(gradients) > 1 else gradients[0]

    def pull(
        self, vector: Vector, images: Images, targets: Targets, scale: float, direction: Vector, of: int = 0
    ) -> tuple[Float[Tensor, ""], Vector, Images, Tensor | None]:
        """The product ⟨direction, gradient⟩, and its derivatives in parameters, images and soft targets."""
        weight = self._weight(images, scale, of)
        parts = zip(images.split(self.at_once), targets.split(self.at_once), strict=True)
        found = [self._pull(vector, *part, weight, direction) for part in parts]
        values, vectors, pixels, labels = zip(*found, strict=True)
        total = torch.stack(vectors).sum(dim=0) if len(vectors) > 1 else vectors[0]
        return torch.stack(values).sum(), total, torch.cat(pixels), torch.cat(labels) if self.soft else None

    def own(self, batch: Batch, scale: float) -> tuple[Batch, float]:
        """The images of a batch that this process works on, and the scale; 0 if they do not count."""
        share = Share(len(batch.rows), self.runtime.processes)
        if share.alone:
            return batch, scale
        draw = None if batch.draw is None else batch.draw.repeat(share.taken)
        return Batch(share.of(batch.rows), draw), scale if share.own else 0.0

    def seen(self, images: Images, batch: Batch) -> Float[Tensor, "batch channel height width"]:
        """The images of a batch as the student sees them."""
        chosen = images[batch.rows]
        if batch.draw is not None:
            chosen = augment(chosen, batch.draw)
        return layout.ordered(chosen, self.runtime)

    def _weight(self, images: Images, scale: float, of: int) -> Float[Tensor, ""]:
        return images.new_full((), scale / (of or len(images)))


def student_loss(logits: Float[Tensor, "image classes"], targets: Targets) -> Float[Tensor, ""]:
    """Cross-entropy, summed over the batch, with classes or with the softmax of label logits."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets, reduction="sum")
    return -(targets.softmax(dim=1) * logits.log_softmax(dim=1)).sum()


def student_gradient(
    flat: FlatNetwork, vector: Vector, images: Images, targets: Targets, weight: Float[Tensor, ""]
) -> Vector:
    """The gradient of the summed loss, times weight."""

    def loss(vector: Vector) -> Float[Tensor, ""]:
        return weight * student_loss(flat.logits(vector, images), targets)

    return grad(loss)(vector)


def pull(
    flat: FlatNetwork,
    wanted: tuple[int, ...],
    vector: Vector,
    images: Images,
    targets: Targets,
    weight: Float[Tensor, ""],
    direction: Vector,
) -> tuple[Float[Tensor, ""], Vector, Images, Tensor]:
    """S = ⟨direction, gradient⟩ and its derivatives. For hard labels the last is the labels themselves and is not used.

    All derivatives are taken inside one function, so that it can be compiled as a whole.
    """

    def product(vector: Vector, images: Images, targets: Targets) -> Float[Tensor, ""]:
        return (direction * student_gradient(flat, vector, images, targets, weight)).sum()

    derivatives, value = grad_and_value(product, argnums=wanted)(vector, images, targets)
    return value, derivatives[0], derivatives[1], derivatives[2] if len(wanted) > 2 else targets


def match(student: Student, images: Images, targets: Targets, lr: Tensor, task: Task, way: Way = "adjoint") -> Matched:
    """Train a student, and differentiate its final distance to the expert.

    Args:
        student: The network.
        images: All synthetic images.
        targets: Their classes, or label logits.
        lr: β, a scalar.
        task: The student's start, its batches and its targets.
        way: `adjoint` is exact, in the memory of one step. `unrolled` is exact, in the memory of all steps. `tesla`
            assumes that no step depends on earlier steps. Several processes share each batch, but not with `unrolled`.

    Raises:
        InputError: Several processes have been started, and the way is `unrolled`.
    """
    if way == "unrolled":
        check_way(way, student.runtime)
        return _unrolled(student, images, targets, lr, task)
    images, targets, lr = images.detach(), targets.detach(), lr.detach()
    vectors = _travelled(student, images, targets, lr, task)
    task = with_drop(task, vectors[-1])
    terms = {step: distance(vectors[step], task.start, point) for step, point in task.waypoints.items()}
    loss = torch.stack([task.waypoints[step].weight * term for step, term in terms.items()]).sum()
    found = Matched(loss, torch.zeros_like(images), None, torch.zeros_like(lr), terms)
    if student.soft:
        found.targets = torch.zeros_like(targets)
    _back(student, images, targets, lr, task, vectors, found, exact=way == "adjoint")
    return found


def check_way(way: Way, runtime: Runtime) -> None:
    """See that all processes can work on a student.

    Raises:
        InputError: There are several, and the way is `unrolled`.
    """
    if way == "unrolled" and runtime.processes.count > 1:
        raise InputError(
            f"gradient unrolled keeps the graph of all steps, which {runtime.processes.count} processes cannot share; "
            "use --gradient adjoint, which is as exact, or one process."
        )


def distance(end: Vector, start: Vector, point: Waypoint) -> Float[Tensor, ""]:
    """‖θ - θ*‖² / ‖θ_0 - θ*‖² over the parameters that are kept."""
    missed, given = (end - point.target).square(), (start - point.target).square()
    if point.keep is not None:
        missed, given = missed * point.keep, given * point.keep
    return missed.sum() / given.sum()


def with_drop(task: Task, end: Vector) -> Task:
    """The task without the parameters that came nearest to its last waypoint."""
    dropped = int(task.drop * len(end))
    if not dropped:
        return task
    last = max(task.waypoints)
    point = task.waypoints[last]
    nearest = (end.detach() - point.target).square().topk(dropped, largest=False).indices
    keep = torch.ones_like(end).index_fill(0, nearest, 0.0)
    points = {**task.waypoints, last: Waypoint(point.target, point.weight, keep)}
    return Task(task.start, task.batches, points, task.momentum, task.scale, task.drop)


def _travelled(student: Student, images: Images, targets: Targets, lr: Tensor, task: Task) -> list[Vector]:
    """The student's parameters before and after every step."""
    vector, velocity, vectors = task.start, torch.zeros_like(task.start), [task.start]
    for batch in task.batches:
        mine, scale = student.own(batch, task.scale)
        seen = student.seen(images, mine)
        gradient = student.gradient(vector, seen, targets[mine.rows], scale, len(batch.rows))
        student.runtime.processes.sum_(gradient)
        velocity = task.momentum * velocity + gradient if task.momentum else gradient
        vector = vector - lr * velocity
        vectors.append(vector)
    return vectors


def _back(
    student: Student,
    images: Images,
    targets: Targets,
    lr: Tensor,
    task: Task,
    vectors: list[Vector],
    found: Matched,
    *,
    exact: bool,
) -> None:
    """Go back through the steps, and add up the gradients in images, targets and step size."""
    steps, processes = len(task.batches), student.runtime.processes
    slope = _slope(vectors[steps], task, steps)
    kappa = torch.zeros_like(slope)
    for step in reversed(range(steps)):
        batch, leaf = task.batches[step], images.clone().requires_grad_()
        mine, scale = student.own(batch, task.scale)
        kappa = task.momentum * kappa - slope
        seen = student.seen(leaf, mine)
        value, vector_bar, image_bar, target_bar = student.pull(
            vectors[step], seen.detach(), targets[mine.rows], scale, kappa, len(batch.rows)
        )
        seen.backward(lr * image_bar)
        assert leaf.grad is not None
        found.images += leaf.grad
        found.lr += value
        if target_bar is not None and found.targets is not None:
            found.targets.index_add_(0, mine.rows, lr * target_bar)
        if exact:
            slope = slope + lr * processes.sum_(vector_bar)
        slope = slope + _slope(vectors[step], task, step)
    for part in (found.images, found.lr, *(() if found.targets is None else (found.targets,))):
        processes.sum_(part)


def _slope(vector: Vector, task: Task, step: int) -> Vector:
    """The derivative of the waypoint's distance after some steps in the parameters at that step."""
    if step == 0 or step not in task.waypoints:
        return torch.zeros_like(vector)
    point = task.waypoints[step]
    return torch.func.grad(lambda end: point.weight * distance(end, task.start, point))(vector)


def _unrolled(student: Student, images: Images, targets: Targets, lr: Tensor, task: Task) -> Matched:
    """Train the student and differentiate its distance with the graph of all steps."""
    images, lr = images.detach().requires_grad_(), lr.detach().requires_grad_()
    targets = targets.detach().requires_grad_() if student.soft else targets
    vector, velocity, vectors = task.start.detach().requires_grad_(), torch.zeros_like(task.start), [task.start]
    for batch in task.batches:
        seen = student.seen(images, batch)
        weight = task.scale / len(seen)
        loss = weight * student_loss(student.flat.logits(vector, seen), targets[batch.rows])
        (gradient,) = torch.autograd.grad(loss, vector, create_graph=True)
        velocity = task.momentum * velocity + gradient
        vector = vector - lr * velocity
        vectors.append(vector)
    task = with_drop(task, vector)
    terms = {step: distance(vectors[step], task.start, point) for step, point in task.waypoints.items()}
    total = torch.stack([task.waypoints[step].weight * term for step, term in terms.items()]).sum()
    leaves = [images, lr, targets] if student.soft else [images, lr]
    image_bar, lr_bar, *target_bar = torch.autograd.grad(total, leaves)
    plain = {step: term.detach() for step, term in terms.items()}
    return Matched(total.detach(), image_bar, target_bar[0] if target_bar else None, lr_bar, plain)
