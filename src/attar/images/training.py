"""Train a network on images: the one loop under evaluation, embeddings and full-data ceilings.

A protocol says how; `TrainNetwork` is a method like any other, one mini-batch a step, so that a long training can be
killed and resumed and its network is an artefact found again by the fingerprint of its data.
"""

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, runtime_checkable
from typing import Protocol as Interface

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core import engine, store
from attar.core.engine import Metrics
from attar.core.errors import InputError, named
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.settings import Range, Settings
from attar.core.state import rebuilt
from attar.images.data.pixels import Split
from attar.images.data.whiten import Transform
from attar.images.networks.architecture import Architecture, mixes_images, multiply_adds, redraw_
from attar.images.sources import ImageSource
from attar.images.views.augment import augment, default_strategy, draw_batch, strategy
from attar.images.views.crops import crop_and_flip, cutmix, mixup, shuffle_tiles


@dataclass(frozen=True, kw_only=True)
class Protocol(Settings):
    """How a network is trained: SGD with cross-entropy, the step size cut once, DSA on every batch, unless said."""

    name: str
    """What the protocol is called in scores and cards."""
    epochs: Annotated[int, Range(1)]
    """Passes over the training images."""
    batch: Annotated[int, Range(1)] = 256
    """Images per step, or all of a smaller set."""
    lr: Annotated[float, Range(0)] = 0.01
    """Step size."""
    momentum: Annotated[float, Range(0, 1)] = 0.9
    """Momentum; it starts again from zero when the step size is cut, as in the field's code."""
    weight_decay: Annotated[float, Range(0)] = 5e-4
    """Weight decay."""
    cut_after: Annotated[float, Range(0, 1)] = 0.5
    """Share of the epochs after which the step size is multiplied by a tenth."""
    augmented: bool = True
    """Whether every batch is augmented."""
    augmentation: Literal["dsa", "crop", "tiles"] = "dsa"
    """DSA; random resized crops and flips; or RDED's, which shuffles tiles and then crops no less than one of them."""
    align_corners: bool = False
    """DSA's corner convention (see `augment`)."""
    mix: Literal["none", "cutmix", "mixup"] = "none"
    """How images of a batch are mixed, and stored labels with them."""
    target: Literal["label", "teacher", "stored"] = "label"
    """What a network learns: the set's labels by cross-entropy; what a teacher that comes with the set says of every
    augmented image; or what one has said, from labels stored for many views, whose augmentation and mix are theirs."""
    distance: Literal["kl", "mse"] = "kl"
    """From a teacher's answers: KL divergence at temperature τ (no factor τ²), or the mean squared error of logits."""
    temperature: Annotated[float, Range(0.01)] = 20.0
    """τ of a teacher's labels, in logits."""
    label_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the cross-entropy with the stored labels, mixed as their images are, beside a teacher's answers."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD, or AdamW with weight decay on matrices and kernels only."""
    schedule: Literal["cut", "cosine", "half-cosine"] = "cut"
    """The step size: cut once; a cosine to zero over the epochs; or half of that way, as in RDED's code."""

    @property
    def cut_epoch(self) -> int:
        """The first epoch, counted from zero, with the smaller step size: the field's script cuts after E//2 + 1."""
        return int(self.epochs * self.cut_after) + 2

    def lr_at(self, epoch: int) -> float:
        """The step size of an epoch, counted from zero."""
        if self.schedule == "cut":
            return self.lr * (0.1 if epoch >= self.cut_epoch else 1.0)
        way = epoch / self.epochs * (0.5 if self.schedule == "half-cosine" else 1.0)
        return self.lr * 0.5 * (1 + math.cos(math.pi * way))


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(name="field", epochs=1000),
        Protocol(name="quick", epochs=100, lr=0.1),
        Protocol(name="ceiling", epochs=30, batch=64),
        Protocol(name="dc", epochs=300, augmented=False),
        Protocol(name="datadam", epochs=1801, batch=64),
        Protocol(
            name="rded",
            epochs=300,
            batch=50,
            lr=1e-3,
            weight_decay=0.01,
            augmentation="tiles",
            mix="cutmix",
            target="teacher",
            optimizer="adamw",
            schedule="half-cosine",
        ),
        Protocol(
            name="sre2l",
            epochs=300,
            batch=128,
            lr=1e-3,
            weight_decay=0.01,
            augmentation="crop",
            mix="cutmix",
            target="stored",
            optimizer="adamw",
            schedule="cosine",
        ),
        Protocol(
            name="hello",
            epochs=300,
            batch=100,
            lr=1e-3,
            weight_decay=0.01,
            augmentation="tiles",
            mix="cutmix",
            target="teacher",
            distance="mse",
            label_weight=0.1,
            optimizer="adamw",
            schedule="half-cosine",
        ),
    )
}
"""`field`: DM's and DSA's evaluation (the papers' 1,000 epochs; the scripts run one more). `quick`: a tenth of the
epochs at ten times the step size. `ceiling`: all the real data. `dc`: gradient matching without DSA. `datadam`: the
released DataDAM script's. `rded`: the released RDED scripts', at their batch for ten images per class. `sre2l`: from
stored labels, as CDA's authors evaluate (SRe2L's batch is 1,024). `hello`: `rded` by squared error of logits, with a
tenth of the stored labels' cross-entropy (a weight that is ours)."""


def protocol_named(name: "str | Protocol") -> Protocol:
    """A protocol by name.

    Raises:
        InputError: No such protocol.
    """
    return named("protocol", name, PROTOCOLS)


@runtime_checkable
class Examples(Interface):
    """What a network can be trained on: an `ImageSource`, or a condensed set."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def flips(self) -> bool:
        """Whether a mirrored image keeps its label."""

    @property
    def targets(self) -> Int[Tensor, " image"] | Float[Tensor, "image classes"]:
        """Hard labels, or soft ones."""

    @property
    def fingerprint(self) -> str:
        """The same for the same examples."""

    def inputs(self, rows: Int[Tensor, " batch"], device: torch.device | str = "cpu") -> Tensor:
        """Network input of these rows."""


@dataclass(frozen=True, kw_only=True)
class Auxiliary(Settings):
    """A network beside a method: one that lies in a folder, or one that is trained on all the data."""

    folder: str | None = None
    """A trained network, by its folder, in place of training one."""
    architecture: Architecture = field(default_factory=Architecture)
    """What is trained."""
    protocol: Protocol = PROTOCOLS["ceiling"]
    """How it is trained."""

    itself: ClassVar[str] = "folder"

    def resolve(self, shape: tuple[int, int, int]) -> Self:
        """Fill in the network's depth."""
        return replace(self, architecture=self.architecture.resolve(shape))

    def found(self, source: ImageSource, runtime: Runtime) -> "TrainedNetwork":
        """The network: from its folder, from the cache, or trained now and kept.

        Raises:
            InputError: The folder holds none, or one of other classes or image size.
        """
        return found_or_trained(self.folder, source, self.architecture, runtime, self.protocol)


TRAINED = Auxiliary()
"""The field's ConvNet, trained as a ceiling is."""
BATCH_NORM = Auxiliary(architecture=Architecture(norm="batch"))
"""One that remembers statistics of what it has seen."""


@dataclass
class Training:
    """A network on its way: its parameters, its optimiser, and where in which shuffled pass it is."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    order: Tensor
    done: int = 0
    examples: Any = rebuilt(default=None)
    teacher: nn.Module | None = rebuilt(default=None)
    stored: Any = rebuilt(default=None)
    """The stored labels of the epoch, where there are some."""
    loss: Callable[[Tensor, Tensor], Tensor] = rebuilt(default=None)
    at_once: int = rebuilt(default=0)


@dataclass(frozen=True, kw_only=True)
class TrainNetwork(Settings):
    """Train one of the field's networks on labelled images."""

    architecture: Architecture = field(default_factory=Architecture)
    """What is trained."""
    protocol: Protocol = PROTOCOLS["ceiling"]
    """How."""
    images: int = 0
    """How many images there are to train on; filled in from the data."""

    name = "train-network"

    def resolve(self, source: Examples, runtime: Runtime | None = None) -> Self:
        """Fill in depth and set size from the data."""
        architecture = self.architecture.resolve(source.shape)
        return type(self)(architecture=architecture, protocol=self.protocol, images=len(source.targets))

    def work(self, source: Examples) -> float:
        """A forward pass and two of its size back, for every image of every epoch."""
        network = self.architecture.build(source.shape, len(source.classes), torch.Generator())
        return 3.0 * multiply_adds(network, source.shape) * self.images * self.protocol.epochs

    @property
    def batches(self) -> int:
        """Steps per epoch."""
        return math.ceil(self.images / self.protocol.batch)

    @property
    def total_steps(self) -> int:
        """Steps in all."""
        return self.protocol.epochs * self.batches

    def build(self, source: Examples, runtime: Runtime) -> Training:
        """A network with fresh parameters."""
        network = self.architecture.build(source.shape, len(source.classes), torch.Generator())
        state = self.build_with(network, source, runtime)
        redraw_(network, runtime.generator("network", str(runtime.device)))
        return state

    def build_with(self, network: nn.Module, source: Examples, runtime: Runtime) -> Training:
        """The same for a network of the caller's own."""
        runtime.place(network).train()
        at_once = len(source.targets) if mixes_images(network) else runtime.images_at_once(source.shape)

        def loss(images: Tensor, targets: Tensor) -> Tensor:
            logits = network(images).float()
            if self.protocol.target != "label":
                return self._taught_loss(logits, targets)
            return F.cross_entropy(logits, targets, reduction="sum")

        if self.protocol.target == "stored":
            _stored_labels(source)
        return Training(
            network=network,
            optimizer=_optimizer(network, self.protocol),
            order=torch.arange(self.images),
            examples=source,
            teacher=_teacher(source, runtime) if self.protocol.target == "teacher" else None,
            loss=runtime.compiled(loss, training=True),
            at_once=at_once,
        )

    def _taught_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The distance from a teacher's answers, and that from the stored labels where they are beside them."""
        protocol = self.protocol
        answers = targets[:, 0] if protocol.label_weight else targets
        if protocol.distance == "mse":
            loss = squared_error(logits, answers)
        else:
            loss = distillation_loss(logits, answers, protocol.temperature)
        if protocol.label_weight:
            loss = loss + protocol.label_weight * F.cross_entropy(logits, targets[:, 1], reduction="sum")
        return loss

    def restart(self, state: Training, runtime: Runtime) -> None:
        """Begin again with fresh parameters in the same place, so that compiled code keeps serving."""
        redraw_(state.network, runtime.generator("network", str(runtime.device)))
        state.network.train()
        state.optimizer.state.clear()
        state.done = 0

    def step(self, state: Training, runtime: Runtime) -> Metrics:
        """One mini-batch; an image's gradient is summed a cache-full of images at a time.

        A last batch of a single image, which has no statistics, is left out where the network takes any.
        """
        epoch, batch = divmod(state.done, self.batches)
        if batch == 0:
            self._begin_epoch(epoch, state, runtime)
        rows = state.order[batch * self.protocol.batch :][: self.protocol.batch]
        if batch and len(rows) == 1 and mixes_images(state.network):
            state.done += 1
            return {}
        if self.protocol.target == "stored":
            images, targets = self._from_stored(epoch, rows, state, runtime)
        else:
            images = self._augmented(state.examples.inputs(rows, runtime.device), state.examples, runtime)
            images, targets = self._targeted(images, rows, state, runtime)
        images = images.contiguous(memory_format=runtime.memory_format)
        state.optimizer.zero_grad(set_to_none=True)
        total = images.new_zeros(())
        for part, wanted in zip(images.split(state.at_once), targets.split(state.at_once), strict=True):
            loss = state.loss(part, wanted) / len(rows)
            loss.backward()
            total += loss.detach()
        state.optimizer.step()
        state.done += 1
        return {"loss": total}

    def _begin_epoch(self, epoch: int, state: Training, runtime: Runtime) -> None:
        state.order = torch.randperm(self.images, generator=runtime.generator("shuffle"))
        for group in state.optimizer.param_groups:
            group["lr"] = self.protocol.lr_at(epoch)
        if self.protocol.schedule == "cut" and epoch == self.protocol.cut_epoch:
            state.optimizer.state.clear()

    def _from_stored(self, epoch: int, rows: Tensor, state: Training, runtime: Runtime) -> tuple[Tensor, Tensor]:
        """The images as the teacher saw them in this epoch, and what it answered (the labels, mixed alike, second)."""
        labels = _stored_labels(state.examples)
        if state.stored is None or state.stored.labels is not labels or state.stored.number != epoch % labels.epochs:
            state.stored = labels.epoch(epoch, state.examples)
        images = state.stored.views.shown(state.examples.inputs, rows, runtime.device)
        answers = state.stored.answers(rows).to(runtime.device)
        if not self.protocol.label_weight:
            return images, answers
        targets = state.stored.mixed(state.examples.targets, rows, state.examples.shape[1:]).to(runtime.device)
        return images, torch.stack([answers, targets], dim=1)

    def _targeted(self, images: Tensor, rows: Tensor, state: Training, runtime: Runtime) -> tuple[Tensor, Tensor]:
        """The images, mixed if asked, and what the network is to answer (a teacher's answers first, labels second)."""
        partner, share = None, 1.0
        if self.protocol.mix != "none":
            mix = cutmix if self.protocol.mix == "cutmix" else mixup
            images, partner, share = mix(images, runtime.generator("mix"))
        if state.teacher is not None:
            with torch.no_grad():
                answers = torch.cat([state.teacher(part).float() for part in images.split(state.at_once)])
            if not self.protocol.label_weight:
                return images, answers
        targets = state.examples.targets[rows].to(runtime.device)
        if targets.ndim == 1 and (partner is not None or state.teacher is not None):
            targets = F.one_hot(targets, len(state.examples.classes)).float()
        if partner is not None:
            targets = share * targets + (1 - share) * targets[partner.to(runtime.device)]
        return images, targets if state.teacher is None else torch.stack([answers, targets], dim=1)

    def _augmented(self, images: Tensor, examples: Examples, runtime: Runtime) -> Tensor:
        if not self.protocol.augmented:
            return images
        if self.protocol.augmentation != "dsa":
            tiles = getattr(examples, "tiles", 1) if self.protocol.augmentation == "tiles" else 1
            images = shuffle_tiles(images, tiles, runtime.generator("augment"))
            smallest = 1 / tiles if self.protocol.augmentation == "tiles" else 0.08
            return crop_and_flip(images, runtime.generator("augment"), smallest=smallest, flips=examples.flips)
        operations = strategy(getattr(examples, "augmentation", None) or default_strategy(examples.flips))
        draw = draw_batch(len(images), operations, runtime.generator("augment"))
        return augment(images, draw, align_corners=self.protocol.align_corners)

    def result(self, state: Training, runtime: Runtime) -> "TrainedNetwork":
        """The trained network."""
        return TrainedNetwork(copy.deepcopy(state.network).eval(), self, state.examples.shape, state.examples.classes)

    def load(self, folder: Path) -> "TrainedNetwork":
        """Read a trained network."""
        return TrainedNetwork.load(folder)


def _optimizer(network: nn.Module, protocol: Protocol) -> torch.optim.Optimizer:
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(), protocol.lr, momentum=protocol.momentum, weight_decay=protocol.weight_decay
        )
    return adamw(list(network.parameters()), protocol.lr, weight_decay=protocol.weight_decay)


def adamw(
    parameters: Sequence[nn.Parameter],
    lr: float,
    *,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """AdamW whose weight decay spares biases and norms."""
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr, betas=betas, weight_decay=weight_decay)


def _teacher(examples: Examples, runtime: Runtime) -> nn.Module:
    carried = getattr(examples, "teacher", None)
    if carried is None:
        raise InputError("this protocol learns from a teacher, but the set carries none; take another --protocol.")
    if carried.classes != examples.classes:
        raise InputError(f"the teacher tells other classes apart than the {len(examples.classes)} that it is to label.")
    return runtime.place(copy.deepcopy(carried.network)).eval().requires_grad_(False)


def _stored_labels(examples: Examples) -> Any:
    found = getattr(examples, "soft", None)
    if found is None:
        raise InputError(
            "this protocol learns from stored labels, but there are none beside the set; store some (attar label), or "
            "take another --protocol."
        )
    return found


def distillation_loss(
    logits: Float[Tensor, "batch classes"], teacher: Float[Tensor, "batch classes"], temperature: float
) -> Float[Tensor, ""]:
    """Σ over the batch of KL(softmax(teacher / τ) ‖ softmax(logits / τ)), without the factor τ² (SRe2L, RDED)."""
    wanted = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(F.log_softmax(logits / temperature, dim=1), wanted, reduction="sum", log_target=True)


def squared_error(logits: Float[Tensor, "batch classes"], teacher: Float[Tensor, "batch classes"]) -> Float[Tensor, ""]:
    """Σ over the batch of the mean over classes of (logit - teacher's)²."""
    return (logits - teacher).square().mean(dim=1).sum()


@dataclass
class TrainedNetwork:
    """A network of the field with its parameters, on disk as safetensors."""

    network: nn.Module
    method: TrainNetwork
    shape: tuple[int, int, int]
    classes: tuple[str, ...]

    def save(self, folder: Path) -> str:
        """Write it to a folder; return its digest."""
        plain = {"settings": self.method.to_json(), "shape": list(self.shape), "classes": list(self.classes)}
        return store.write_tensors(folder / "network.safetensors", self.network.state_dict(), plain)

    @property
    def learned(self) -> dict[str, Tensor]:
        """Its weights, and what its norms remember."""
        return dict(self.network.state_dict())

    @property
    def parts(self) -> list[dict[str, Tensor]]:
        """What goes along with a set that it labels, file by file."""
        return [self.network.state_dict()]

    def note(self, images: int) -> str:
        """What a card says of it."""
        return "The network in `teacher/` answers for augmented images; its bytes are counted."

    def picture(self) -> None:
        """A network has none."""

    @classmethod
    def load(cls, folder: Path, *, digest: str | None = None) -> "TrainedNetwork":
        """Read what `save` wrote, and see that it is the file of that digest.

        Raises:
            InputError: The file is missing, damaged, or another one.
        """
        path = folder / "network.safetensors"
        tensors, plain = store.read_tensors(path)
        if digest is not None and store.digest_of(tensors, plain) != digest:
            raise InputError(f"{path} is not the file that artefact.json describes.")
        method, shape = TrainNetwork.from_json(plain["settings"]), tuple(plain["shape"])
        network = method.architecture.build(shape, len(plain["classes"]), torch.Generator())
        network.load_state_dict(tensors)
        return cls(network.eval(), method, shape, tuple(plain["classes"]))


def trainings(
    method: TrainNetwork,
    examples: Examples | Callable[[int], Examples],
    runtime: Runtime,
    *,
    repeats: int | Sequence[int],
    build: Callable[[int], nn.Module] | None = None,
    steps: int | None = None,
    watch: Callable[[int], None] = lambda taken: None,
) -> Iterator[nn.Module]:
    """Networks trained one after another; the i-th from the i-th seed, whatever the examples.

    Args:
        method: Resolved settings.
        examples: What to train on, or a function that gives the i-th network's examples, all equally many.
        runtime: The machine and the seed from which the repeats' seeds come.
        repeats: How many networks, or which.
        build: The user's own network for a seed, in place of the method's architecture.
        steps: Stop after so many mini-batches, in place of the protocol's epochs.
        watch: Told after every mini-batch how many have been taken, by all networks together.
    """
    state, taken = None, 0
    each = examples if callable(examples) else lambda repeat: examples
    for repeat in range(repeats) if isinstance(repeats, int) else repeats:
        turn = runtime.with_seed(derived_seed(runtime.seed, f"repeat {repeat}"))
        if build is not None:
            state = method.build_with(build(turn.seed), each(repeat), turn)
        elif state is None:
            state = method.build(each(repeat), turn)
        else:
            method.restart(state, turn)
            state.examples = each(repeat)
        for _ in range(method.total_steps if steps is None else steps):
            method.step(state, turn)
            taken += 1
            watch(taken)
        yield state.network.eval()


@torch.inference_mode()
def accuracy(network: nn.Module, split: Split, transform: Transform, runtime: Runtime) -> float:
    """Per cent of a split that a network labels rightly, in float32; only one number leaves the device."""
    right = torch.zeros((), dtype=torch.long, device=runtime.device)
    at_once = min(runtime.images_at_once(split.pixels.shape), 4096)
    for rows in torch.arange(len(split)).split(at_once):
        images = transform.forward(split.pixels[rows].to(runtime.device))
        logits = network(images.contiguous(memory_format=runtime.memory_format))
        right += (logits.argmax(dim=1) == split.labels[rows].to(runtime.device)).sum()
    return 100 * right.item() / len(split)


def seconds_for(method: TrainNetwork, examples: Examples, runtime: Runtime, *, tried: int = 3) -> float:
    """About how long a training would take, from timing a few of its steps."""
    trial = runtime.with_seed(runtime.seed)
    state = method.build(examples, trial)
    method.step(state, trial)
    start = time.perf_counter()
    for _ in range(tried):
        method.step(state, trial)
    return (time.perf_counter() - start) / tried * method.total_steps


def network_folder(method: Settings, source: ImageSource, seed: int) -> Path:
    """Where the cache keeps, or would keep, this network trained on this data."""
    key = json.dumps([method.to_json(), source.fingerprint, seed], sort_keys=True)
    return store.cache_folder() / "networks" / hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def trained(source: ImageSource, architecture: Architecture, runtime: Runtime, protocol: Protocol) -> TrainedNetwork:
    """A network trained on all of a source: from the cache, or trained now and kept there (resumable)."""
    method = TrainNetwork(architecture=architecture, protocol=protocol).resolve(source)
    folder = network_folder(method, source, runtime.seed)
    store.make_folder(folder)
    machine = Runtime(replace(runtime.engine, tensorboard=False), runtime.seed, say=runtime.say).alone()
    machine.plan(method.work(source))
    network = engine.run(method, source, machine, out=folder, title="training on all images", wait=True)
    runtime.place(network.network)
    return network


def found_or_trained(
    folder: str | None, source: ImageSource, architecture: Architecture, runtime: Runtime, protocol: Protocol
) -> TrainedNetwork:
    """The network that lies in a folder, or one trained on all of a source.

    Raises:
        InputError: The folder holds none, or one of other classes or image size.
    """
    if folder is None:
        return trained(source, architecture, runtime, protocol)
    found = TrainedNetwork.load(Path(folder))
    if found.classes != source.classes or found.shape != source.shape:
        raise InputError(
            f"the network in {folder} was trained on {len(found.classes)} classes of {found.shape}, "
            f"but {source.name} has {len(source.classes)} of {source.shape}."
        )
    runtime.place(found.network)
    return found
