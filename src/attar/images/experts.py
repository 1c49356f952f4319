"""Experts: networks trained on all the data, with their parameters kept after every epoch.

Trajectory matching compares a student's parameters with those of experts. Their training costs more than all the rest.
So they are trained once, kept in the cache or a folder of the user, and used by every method with the same data and
network. Plain experts are MTT's (Cazenavette et al., CVPR 2022, arXiv:2203.11932). Flat experts are FTD's (Du et al.,
CVPR 2023, arXiv:2211.11004, with GSAM of Zhuang et al., ICLR 2022, arXiv:2203.08065). Smooth experts are AST's (Shen et
al., arXiv:2310.10541).
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad, grad_and_value, vmap

from attar.core import processes, store
from attar.core.dealing import deal
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.fleet import ALONE, Crew, Task, crew
from attar.core.memory import may_stay_on
from attar.core.runtime import Engine, Runtime
from attar.core.sending import sent
from attar.core.settings import Range, Role, Settings, difference
from attar.core.sharing import Share
from attar.core.state import rebuilt
from attar.core.training import after_cuts, cache_place, made_in, next_rows
from attar.images import layout
from attar.images.networks.architecture import Architecture, mixes_images, multiply_adds, redraw_
from attar.images.networks.flat import FlatNetwork, Images, Vector
from attar.images.sources import ImageSource
from attar.images.views.augment import augment, draw_batch, strategy

TOGETHER = 10
"""Number of experts that a GPU trains together. A CPU trains them one after another."""


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


@dataclass
class Pool:
    """Trained experts on disk. For each student a method draws an expert and two of its checkpoints."""

    files: tuple[store.Rows, ...]

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def epochs(self) -> int:
        """Number of epochs of the shortest trajectory."""
        return min(len(file) for file in self.files) - 1

    def smoothness(self) -> str:
        """The smoothness of the trajectories in one line."""
        every = [smoothness(torch.stack([self.vector(e, k) for k in range(self.epochs + 1)])) for e in range(len(self))]
        mean = {name: sum(one[name] for one in every) / len(every) for name in every[0]}
        return (
            f"per epoch they move by {100 * mean['displacement']:.2f} ± {100 * mean['spread']:.2f} % of their length "
            f"({100 * mean['first']:.2f} % in the first), and turn by {mean['angle']:.0f}°"
        )

    def vector(self, expert: int, epoch: int, device: torch.device | str = "cpu") -> Vector:
        """An expert's parameters after a number of epochs. A GPU keeps those that it was given, if all would fit."""
        device = torch.device(device)
        if (expert, epoch, device) in self._kept:
            return self._kept[expert, epoch, device]
        found = sent(self.files[expert][epoch], device)
        if may_stay_on(device, found.nbytes * sum(map(len, self.files)), self):
            self._kept[expert, epoch, device] = found
        return found

    @cached_property
    def _kept(self) -> dict[tuple[int, int, torch.device], Vector]:
        return {}


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


def open_experts(
    source: ImageSource,
    architecture: Architecture,
    augmentation: str,
    experts: Experts,
    epochs: int,
    runtime: Runtime,
    *,
    hired: Crew | None = None,
) -> Pool:
    """Experts for these data: found on disk, or trained now and saved.

    Args:
        source: The data, whitened if the method whitens.
        architecture: The network.
        augmentation: DSA operations for their training.
        experts: Their training, number and folder.
        epochs: Smallest number of epochs.
        runtime: The machine; the experts have a seed of their own.
        hired: Who trains them. Default: this process.

    Raises:
        InputError: The folder holds experts of other data or another network, or a file is truncated.
    """
    assert experts.experts is not None, "resolve the settings first"
    folder = _folder(source, architecture, augmentation, experts)
    store.make_folder(folder)
    runtime.processes.once(partial(_write_card, folder, source, architecture, augmentation, experts))
    if runtime.processes.any(not (folder / "experts.json").exists()):
        raise InputError(
            f"{folder} is not the same folder for all {runtime.processes.count} processes. Choose a folder on storage "
            "that all machines share."
        )
    method = TrainExperts(
        experts=dataclasses.replace(experts, experts=None, epochs=None, folder=None),
        architecture=architecture,
        augmentation=augmentation,
        epochs=epochs,
        together=TOGETHER if (hired.on_gpus if hired else runtime.device.type != "cpu") else 1,
    )
    count = experts.experts
    missing = runtime.processes.once(
        lambda: [number for number in range(count) if number not in _found(folder, epochs)]
    )
    if missing:
        runtime.say(f"{count} experts of {epochs} epochs: {len(missing)} to train, kept in {folder}")
    _train_all(method, _groups(missing, method.together), folder.resolve(), source, runtime, hired)
    found = _found(folder, epochs)
    pool = Pool(tuple(found[number] for number in range(count)))
    for file in pool.files:
        runtime.prepared.count(file.path.parent)
    return pool


def _train_all(
    method: TrainExperts,
    groups: list[list[int]],
    folder: Path,
    source: ImageSource,
    runtime: Runtime,
    hired: Crew | None,
) -> None:
    """Train groups of experts: each by one process, or, where there are too few, by several together."""
    training = partial(_train, method, folder=folder, settings=runtime.engine)
    tasks = [Task(f"experts {group[0]} to {group[-1]}", partial(training, group), (source,)) for group in groups]
    with runtime.prepared.making(), crew(ALONE, runtime) as alone:
        if runtime.processes.count == 1 or (hired and hired.fleet != ALONE):
            (hired or alone).do(tasks, folder=folder, say=runtime.say)
            return
        one = method.resolve(source, runtime)
        work = one.work(source) / one.total_steps
        for numbers, together in deal(len(tasks), runtime.processes, work, runtime.device):
            shared = partial(training, together=together)
            some = [dataclasses.replace(tasks[number], call=partial(shared, groups[number])) for number in numbers]
            alone.do(some, folder=folder, say=runtime.say)
        runtime.processes.any(False)  # waits until the other processes are done too


def _groups(numbers: Sequence[int], together: int) -> list[list[int]]:
    """Groups of consecutive numbers, at most `together` in each."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and len(groups[-1]) < together and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _train(
    method: TrainExperts,
    group: list[int],
    source: ImageSource,
    *,
    folder: Path,
    settings: Engine,
    together: processes.Processes = processes.ALONE,
) -> None:
    """Train a group in its own run folder, and resume it if it was stopped."""
    machine = Runtime(settings, method.experts.first_seed).among(together)
    method = dataclasses.replace(method, first=group[0], together=len(group)).resolve(source, machine)
    place = folder / f"{group[0]:03d}-{group[-1]:03d}-epochs-{method.epochs}"
    made_in(place, method, source, machine, title=f"expert {group[0]}", shared=True)


def _found(folder: Path, epochs: int) -> dict[int, store.Rows]:
    """Experts with enough epochs, by number."""
    found: dict[int, store.Rows] = {}
    for path in sorted(folder.glob("*/expert-*.safetensors")):
        rows = store.Rows(path)
        if len(rows) > epochs:
            found.setdefault(int(path.stem.split("-")[1]), rows)
    return found


def _folder(source: ImageSource, architecture: Architecture, augmentation: str, experts: Experts) -> Path:
    if experts.folder is not None:
        return Path(experts.folder)
    facts = _facts(source, architecture, augmentation, experts)
    names = {new: old for old, new in experts.moved.items()}
    older = {**facts, "training": {names.get(name, name): value for name, value in experts.how.items()}}
    usual, earlier = cache_place("experts", facts), cache_place("experts", older)
    return earlier if earlier.exists() and not usual.exists() else usual


def _facts(source: ImageSource, architecture: Architecture, augmentation: str, experts: Experts) -> dict[str, Any]:
    """The data, network, augmentation and training of experts.

    Earlier versions warmed up the penalty too. Their experts are not those of today.
    """
    return {
        "data": source.fingerprint,
        "network": architecture.to_json(),
        "augmentation": augmentation,
        "training": experts.how,
        **({"gradient penalty": "without the warm-up"} if experts.smooth_penalty and experts.smooth_warm_up else {}),
    }


def _in_words_of_today(facts: Any) -> Any:
    """The facts that an older version wrote, with the current names of the settings."""
    training = facts.get("training") if isinstance(facts, dict) else None
    if not isinstance(training, dict):
        return facts
    return {**facts, "training": {Experts.moved.get(name, name): value for name, value in training.items()}}


def _write_card(
    folder: Path, source: ImageSource, architecture: Architecture, augmentation: str, experts: Experts
) -> None:
    """Describe the experts in a folder, and refuse a folder that holds other experts.

    Raises:
        InputError: The folder holds other experts or other files, or its description is damaged or missing.
    """
    facts = _facts(source, architecture, augmentation, experts)
    path = folder / "experts.json"
    # Listed first: another process may describe the same experts here at this moment.
    files = [child for child in folder.iterdir() if not child.match(".*.tmp")]
    if path.exists():
        there = _in_words_of_today(store.read_json(path))
        changes = difference(there, facts) if isinstance(there, dict) else ["experts.json is damaged"]
        if changes:
            raise InputError(f"{folder} holds other experts ({'; '.join(changes)}); choose another folder.")
        return
    if any(folder.glob("*/expert-*.safetensors")):
        raise InputError(f"{path} is missing, so the data of the experts beside it are unknown; choose another folder.")
    if files:
        raise InputError(f"{folder} is not empty, but it has no experts trained by attar; choose another folder.")
    how = "\n".join(f"| {name} | {value} |" for name, value in experts.how.items())
    text = (
        f"# Experts on {source.name}\n\nNetworks ({architecture.network}) trained on all of {source.name}, for "
        f"trajectory matching. Their parameters are kept after every epoch. Each file has one expert: row 0 is its "
        f"start, row k its parameters after epoch k. Augmentation: {augmentation}.\n\n"
        f"| setting | value |\n|---|---|\n{how}\n"
    )
    store.write_json(path, facts)
    store.write_bytes(folder / "README.md", text.encode())


def smoothness(vectors: Float[Tensor, "checkpoint parameter"]) -> dict[str, float]:
    """Smoothness of a trajectory: mean relative displacement per epoch, its spread, and mean turn between epochs.

    AST claims that its warm-up shortens the first displacement and that its penalty makes displacements more equal.
    """
    moves = vectors[1:] - vectors[:-1]
    sizes = moves.norm(dim=1) / vectors[:-1].norm(dim=1)
    angles = torch.cosine_similarity(moves[1:], moves[:-1], dim=1).clamp(-1, 1).acos().rad2deg()
    return {
        "first": float(sizes[0]),
        "displacement": float(sizes.mean()),
        "spread": float(sizes.std(correction=0)),
        "angle": float(angles.mean()) if len(angles) else 0.0,
    }
