"""Experts: networks trained on all the data, with their parameters kept after every epoch.

Trajectory matching compares a student's parameters with those of experts. Their training costs more than all the rest.
So they are trained once, kept in the cache or a folder of the user (`expert_pool`), and used by every method with the
same data and network. Plain experts are MTT's (Cazenavette et al., CVPR 2022, arXiv:2203.11932). Flat experts are
FTD's (Du et al., CVPR 2023, arXiv:2211.11004, with GSAM of Zhuang et al., ICLR 2022, arXiv:2203.08065). Smooth experts
are AST's (Shen et al., arXiv:2310.10541).
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad, grad_and_value, vmap

from attar.core import store
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range, Role, Settings
from attar.core.sharing import Share
from attar.core.state import rebuilt
from attar.core.training import after_cuts, next_rows
from attar.images import layout
from attar.images.networks.architecture import Architecture, mixes_images, multiply_adds, redraw_
from attar.images.networks.flat import FlatNetwork, Images, Vector
from attar.images.sources import ImageSource
from attar.images.views.augment import augment, draw_batch, strategy


@dataclass(frozen=True, kw_only=True)
class Experts(Settings):
    """Training of the experts, and the folder that holds them."""

    experts: Annotated[int, Range(1)] | None = None
    """Number of experts. Default: 100 on a GPU, 10 on a CPU."""
    epochs: Annotated[int, Range(1)] | None = None
    """Passes over the training data for each expert. Default: as many as the method uses (attar train: 50)."""
    folder: str | None = None
    """Folder that holds the experts, or in which they are saved. Default: a folder in the cache."""
    first_seed: int = 0
    """Seed of the first expert. It does not depend on the run's seed, so that runs with different seeds share
    experts."""
    lr: Annotated[float, Range(0)] = 0.01
    """Step size of an expert's training."""
    momentum: Annotated[float, Range(0, 1)] = 0.0
    """Momentum of an expert's training. It is 0 in MTT, so that a student can follow."""
    weight_decay: Annotated[float, Range(0)] = 0.0
    """Weight decay of an expert's training."""
    batch: Annotated[int, Range(1)] = 256
    """Batch size of an expert's training, in real images."""
    cut_epoch: Annotated[int, Range(1)] | None = None
    """First epoch, counted from zero, with a smaller step size; momentum starts again from zero there. Default:
    none."""
    cut: Annotated[float, Range(0, 1)] = 0.6
    """Factor of the step size from the cut epoch on."""
    flat_radius: Annotated[float, Range(0)] = 0.0
    """Radius of adaptive GSAM, ρ, which seeks flat minima; 0 is plain SGD."""
    flat_gap: Annotated[float, Range(0)] = 0.3
    """Weight α of GSAM, with which the part of the gradient that is orthogonal to the perturbed gradient is
    subtracted."""
    smooth_penalty: Annotated[float, Range(0)] = 0.0
    """Weight of AST's gradient penalty, λ. The penalty keeps ‖∂Σ logits/∂pixel‖ over the channels near one."""
    smooth_warm_up: bool = False
    """Whether to use AST's clipping loss: the cross-entropy is multiplied by 0.5, 0.55, ... in the first ten epochs."""

    name = "experts"
    kind = "images"
    verb = "train"
    shares = True
    itself = "experts"
    moved = MappingProxyType(
        {
            **{f"expert_{name}": name for name in ("epochs", "folder", "lr", "momentum", "batch", "cut_epoch", "cut")},
            "expert_seed": "first_seed",
            "expert_decay": "weight_decay",
        }
    )

    @property
    def how(self) -> dict[str, Any]:
        """The settings on which an expert's parameters depend: all but number, epochs and folder."""
        apart = ("experts", "epochs", "folder")
        return {name: value for name, value in self.to_json().items() if name not in apart}

    def lr_at(self, epoch: int) -> float:
        """The step size of an epoch, counted from zero."""
        cuts = [] if self.cut_epoch is None else [self.cut_epoch]
        return self.lr * after_cuts(epoch, cuts, self.cut)

    def loss_scale(self, epoch: int) -> float:
        """Factor of the cross-entropy in an epoch. Penalty and weight decay have none."""
        return min(1.0, 0.5 + 0.05 * epoch) if self.smooth_warm_up else 1.0


@dataclass
class Travelling:
    """Experts during their training."""

    vectors: Float[Tensor, "expert parameter"]
    velocities: Float[Tensor, "expert parameter"]
    trajectories: Float[Tensor, "expert checkpoint parameter"]
    order: Int[Tensor, "expert image"]
    done: int = 0
    source: Any = rebuilt(default=None)
    gradient: Callable[..., tuple[Tensor, Tensor]] = rebuilt(default=None)
    at_once: int = rebuilt(default=0)


@dataclass(frozen=True, kw_only=True)
class TrainExperts(Settings):
    """Train some experts in parallel, one mini-batch of each in a step. Each has its own random numbers.

    An expert does not depend on the experts trained with it, up to the order of summation.
    """

    experts: Annotated[Experts, Role()] = field(default_factory=Experts)
    """Training of the experts."""
    architecture: Architecture = field(default_factory=Architecture)
    """The network of the experts."""
    augmentation: str = "none"
    """DSA operations, drawn once for each mini-batch."""
    epochs: Annotated[int, Range(1)] = 1
    """Number of epochs."""
    first: Annotated[int, Range(0)] = 0
    """Number of the first of these experts."""
    together: Annotated[int, Range(1)] = 1
    """Number of experts that are trained together."""
    images: int = 0
    """Number of training images, from the data."""

    name = "train-experts"

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in depth and set size."""
        return dataclasses.replace(
            self, images=len(source.targets), architecture=self.architecture.resolve(source.shape)
        )

    @property
    def batches(self) -> int:
        """Steps per epoch."""
        return -(-self.images // self.experts.batch)

    @property
    def total_steps(self) -> int:
        """Steps in all."""
        return self.epochs * self.batches

    def work(self, source: ImageSource) -> float:
        """Multiply-adds: a pass forward and two back; twice as many for flat experts, three times for smooth ones."""
        network = self.architecture.build(source.shape, len(source.classes), torch.Generator())
        passes = 3.0 * (1 + (self.experts.flat_radius > 0) + 2 * (self.experts.smooth_penalty > 0))
        return passes * multiply_adds(network, source.shape) * self.images * self.epochs * self.together

    @property
    def numbers(self) -> range:
        """The numbers of these experts."""
        return range(self.first, self.first + self.together)

    def build(self, source: ImageSource, runtime: Runtime) -> Travelling:
        """Networks with random parameters."""
        flat = flat_network(self.architecture, source, runtime)
        starts = []
        for number in self.numbers:
            redraw_(flat.network, runtime.generator(f"network {number}", str(runtime.device)))
            starts.append(flat.vector())
        vectors = torch.stack(starts)
        trajectories = vectors.new_zeros(self.together, self.epochs + 1, flat.length)
        trajectories[:, 0] = vectors
        found = partial(loss_gradient, flat, self.experts.smooth_penalty)
        several = self.together > 1
        return Travelling(
            vectors=vectors,
            velocities=torch.zeros_like(vectors),
            trajectories=trajectories,
            order=torch.zeros(self.together, self.images, dtype=torch.long),
            source=source,
            gradient=runtime.compiled(
                vmap(found, in_dims=(0, 0, 0, 0, None, None)) if several else found, training=True
            ),
            at_once=2**31 if several else layout.at_once(source.shape, runtime),
        )

    def step(self, state: Travelling, runtime: Runtime) -> Metrics:
        """Take one mini-batch for each expert."""
        epoch, batch = divmod(state.done, self.batches)
        if batch == 0 and epoch == self.experts.cut_epoch:
            state.velocities = torch.zeros_like(state.velocities)
        rows = [
            next_rows(order, state.done, self.experts.batch, runtime.generator(f"shuffle {number}"))
            for number, order in zip(self.numbers, state.order, strict=True)
        ]
        shown = [self._shown(number, of, state, runtime) for number, of in zip(self.numbers, rows, strict=True)]
        plain, seen, labels = (torch.stack(parts) for parts in zip(*shown, strict=True))
        scale = self.experts.loss_scale(epoch)
        share = Share(len(rows[0]), runtime.processes)
        gradient = partial(self._gradient, state, plain, seen, labels, scale, share=share)
        direction, loss = flat_direction(
            state.vectors, gradient, radius=self.experts.flat_radius, gap=self.experts.flat_gap
        )
        direction = direction + self.experts.weight_decay * state.vectors
        state.velocities = self.experts.momentum * state.velocities + direction
        state.vectors = state.vectors - self.experts.lr_at(epoch) * state.velocities
        state.done += 1
        if state.done % self.batches == 0:
            state.trajectories[:, epoch + 1] = state.vectors
        return {"loss": loss.mean()}

    def _shown(
        self, number: int, rows: Int[Tensor, " batch"], state: Travelling, runtime: Runtime
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Plain images, augmented images, and their labels: those of the batch that this process works on."""
        share, operations = Share(len(rows), runtime.processes), strategy(self.augmentation)
        rows = share.of(rows)
        plain = seen = state.source.inputs(rows, runtime.device)
        if operations:
            draw = draw_batch(share.rows, operations, runtime.generator(f"augment {number}"))
            seen = augment(plain, draw.repeat(share.taken))
        return plain, seen, state.source.targets[rows].to(runtime.device)

    def _gradient(
        self,
        state: Travelling,
        plain: Tensor,
        seen: Tensor,
        labels: Tensor,
        scale: float,
        vectors: Tensor,
        share: Share | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mean gradient and loss of each expert: of all experts at once, or of one expert on a few images at a time.

        The mean is a sum over images. Several processes add up those of their images.
        """
        share = share or Share(seen.shape[1])
        weight, warm = torch.tensor(
            [1 / share.rows if share.own else 0.0, scale], dtype=vectors.dtype, device=vectors.device
        )
        if self.together > 1:
            total, loss = state.gradient(vectors, plain, seen, labels, weight, warm)
        else:
            total, loss = torch.zeros_like(vectors), vectors.new_zeros(1)
            for part in torch.arange(seen.shape[1]).split(state.at_once):
                one, value = state.gradient(vectors[0], plain[0, part], seen[0, part], labels[0, part], weight, warm)
                total, loss = total + one, loss + value
        share.add_([total, loss])
        return total, loss

    def result(self, state: Travelling, runtime: Runtime) -> "Trajectories":
        """The trajectories so far."""
        return Trajectories(state.trajectories.cpu(), self)

    def load(self, folder: Path) -> "Trajectories":
        """A result without parameters, because trained experts are read from disk when they are needed."""
        return Trajectories(None, self)


@dataclass
class Trajectories:
    """Experts' parameters after every epoch."""

    vectors: Float[Tensor, "expert checkpoint parameter"] | None
    method: TrainExperts

    @property
    def learned(self) -> dict[str, Tensor]:
        """All parameters."""
        return {} if self.vectors is None else {"parameters": self.vectors}

    def save(self, folder: Path) -> None:
        """Write one file for each expert."""
        assert self.vectors is not None
        for number, vectors in zip(self.method.numbers, self.vectors, strict=True):
            store.write_rows(folder / f"expert-{number:03d}.safetensors", vectors, {"number": number})

    def picture(self) -> None:
        """Experts have no picture."""


def flat_network(architecture: Architecture, source: ImageSource, runtime: Runtime) -> FlatNetwork:
    """A network as a function of its parameters.

    Raises:
        InputError: The network has batch norm, whose statistics are not parameters.
    """
    network = architecture.build(source.shape, len(source.classes), torch.Generator())
    if mixes_images(network):
        raise InputError(
            "batch norm's statistics are not parameters, and trajectories need parameters only; "
            "use --norm instance, layer or group."
        )
    layout.place(network, runtime).train()
    return FlatNetwork(network)


def loss_gradient(
    flat: FlatNetwork,
    penalty: float,
    vector: Vector,
    plain: Images,
    seen: Images,
    labels: Int[Tensor, " image"],
    weight: Float[Tensor, ""],
    warm: Float[Tensor, ""] | float = 1.0,
) -> tuple[Vector, Float[Tensor, ""]]:
    """Gradient and value of warm · weight · Σ cross-entropy, plus AST's penalty on the images before augmentation.

    Args:
        flat: The network.
        penalty: λ.
        vector: Its parameters.
        plain: Images before augmentation.
        seen: Images after it.
        labels: Their classes.
        weight: Share of an image in the mean over the batch.
        warm: Factor of the cross-entropy, η. The released code does not scale the penalty with it.
    """

    def loss(vector: Vector) -> Float[Tensor, ""]:
        logits = flat.logits(vector, seen)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        entropy = warm * weight * F.cross_entropy(logits, labels, reduction="sum")
        return entropy + gradient_penalty(flat, vector, plain, penalty, weight) if penalty else entropy

    gradient, value = grad_and_value(loss)(vector)
    return gradient, value


def gradient_penalty(
    flat: FlatNetwork, vector: Vector, images: Images, penalty: float, weight: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """AST's penalty: weight · λ · Σ over images of the mean over pixels of (‖∂Σ logits/∂pixel‖ - 1)².

    The norm is over the colour channels of each pixel, as in the released code.
    """
    slopes = grad(lambda x: flat.logits(vector, x).sum())(images)
    return weight * penalty * (slopes.norm(dim=1) - 1).square().mean(dim=(1, 2)).sum()


def flat_direction(
    vectors: Float[Tensor, "expert parameter"],
    gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
    *,
    radius: float,
    gap: float,
) -> tuple[Float[Tensor, "expert parameter"], Float[Tensor, " expert"]]:
    """The direction of adaptive GSAM, g_p - α g_⊥, and the loss. g_p is the gradient at θ + ε.

    ε = ρ θ² g / ‖ |θ| g ‖, and g_⊥ is the part of g that is orthogonal to g_p. With radius 0 it is the gradient itself.
    """
    g, loss = gradient(vectors)
    if radius == 0:
        return g, loss
    reach = (vectors.abs() * g).norm(dim=1, keepdim=True) + 1e-12
    perturbed, _ = gradient(vectors + radius * vectors.square() * g / reach)
    length, other = g.norm(dim=1, keepdim=True), perturbed.norm(dim=1, keepdim=True)
    cosine = (g * perturbed).sum(dim=1, keepdim=True) / (length * other + 1e-12)
    across = g - cosine * length * perturbed / (other + 1e-12)
    return perturbed - gap * across, loss
