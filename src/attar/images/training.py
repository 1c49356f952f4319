"""Train a network on images: the loop of evaluation, embeddings and full-data ceilings.

A protocol defines the training. `TrainNetwork` is a method with one mini-batch per step, so a long training can be
killed and resumed. Its network is an artefact that is found again by the fingerprint of its data.
"""

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from attar.core import store
from attar.core.dropout import drawing, masked
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Settings
from attar.core.sharing import Share, check_shareable, current, treats_rows_alone
from attar.core.state import rebuilt
from attar.core.training import adamw, next_rows, rows_after, set_lr
from attar.images import layout
from attar.images.classes import columns_of
from attar.images.networks.architecture import Architecture, mixes_images, multiply_adds, redraw_
from attar.images.networks.blocks import Network
from attar.images.networks.outputs import choosing
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.sources import ImageSource
from attar.images.targets import Examples, labels_beside, labels_loss, loss_of, shown, targeted, teacher_of


@dataclass
class Training:
    """A network during training: its parameters, its optimiser, and its place in the current shuffled pass."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    order: Tensor
    done: int = 0
    examples: Any = rebuilt(default=None)
    teacher: nn.Module | None = rebuilt(default=None)
    stored: Any = rebuilt(default=None)
    """The stored labels of the epoch, if there are any."""
    loss: Callable[[Tensor, Tensor], Tensor] = rebuilt(default=None)
    at_once: int = rebuilt(default=0)
    rows_alone: bool = rebuilt(default=False)
    """Whether no layer compares images or draws at random."""
    joined: bool = rebuilt(default=False)
    """Whether the loss is drawn for a batch, so that it needs all rows of processes that share one."""


@dataclass(frozen=True, kw_only=True)
class TrainNetwork(Settings):
    """Train one of the field's networks on labelled images."""

    architecture: Architecture = field(default_factory=Architecture)
    """The network to train."""
    protocol: Protocol = PROTOCOLS["ceiling"]
    """Protocol of the training."""
    images: int = 0
    """Number of training images, from the data."""

    name = "train-network"
    shares = True

    def resolve(self, source: Examples, runtime: Runtime | None = None) -> Self:
        """Fill in depth and set size from the data."""
        architecture = self.architecture.resolve(source.shape)
        return type(self)(architecture=architecture, protocol=self.protocol, images=len(source.targets))

    def work(self, source: Examples) -> float:
        """Multiply-adds: a forward pass and a backward pass of twice its cost for every image and epoch."""
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
        """A network with random parameters."""
        network = self.architecture.build(source.shape, len(source.classes), torch.Generator())
        state = self.build_with(network, source, runtime)
        redraw_(network, runtime.generator("network", str(runtime.device)))
        return state

    def build_with(self, network: nn.Module, source: Examples, runtime: Runtime) -> Training:
        """The training of a given network, whose parameters are kept."""
        layout.place(network, runtime).train()
        check_shareable(network, runtime.processes)
        labels = labels_loss(source, self.protocol, runtime)
        whole = mixes_images(network) or (labels is not None and labels.pseudo)
        at_once = len(source.targets) if whole else layout.at_once(source.shape, runtime)
        if self.protocol.target == "stored":
            labels_beside(source)
        return Training(
            network=network,
            optimizer=optimizer_for(list(network.parameters()), self.protocol),
            order=torch.arange(self.images),
            examples=source,
            teacher=self._teacher(source, runtime),
            loss=self._loss(network, labels, runtime),
            at_once=at_once,
            rows_alone=isinstance(network, Network) and treats_rows_alone(network),
            joined=labels is not None and labels.pseudo,
        )

    def _loss(self, network: nn.Module, labels: Any, runtime: Runtime) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss of images and targets. What is drawn for a pseudo-loss is not compiled.

        Nor is a network whose layers exchange something with other processes.
        """
        drawn = labels is not None and labels.pseudo
        alone = isinstance(network, Network) and treats_rows_alone(network) and not self.protocol.dropout
        if runtime.processes.count > 1 and not alone:
            runtime = runtime.eager()
        under = UnderMasks(network, self.protocol) if self.protocol.dropout else network
        forward = runtime.compiled(under, training=True) if drawn else under

        def loss(images: Tensor, targets: Tensor) -> Tensor:
            found = forward(images).float()
            if drawn and (share := current()):
                found, targets = share.joined_at(found, -2), share.joined_at(targets, 0)
            if not self.protocol.dropout:
                return loss_of(found, targets, self.protocol, labels)
            return torch.stack([loss_of(logits, targets, self.protocol, labels) for logits in found]).mean()

        return loss if drawn else runtime.compiled(loss, training=True)

    def _teacher(self, source: Examples, runtime: Runtime) -> nn.Module | None:
        if self.protocol.target != "teacher":
            return None
        return teacher_of(source, runtime, of_batch=self.protocol.teacher_statistics == "batch")

    def restart(self, state: Training, runtime: Runtime) -> None:
        """Start again with new random parameters in the same tensors, so that compiled code stays valid."""
        redraw_(state.network, runtime.generator("network", str(runtime.device)))
        state.network.train()
        state.optimizer.state.clear()
        state.done = 0

    def step(self, state: Training, runtime: Runtime) -> Metrics:
        """Train on one mini-batch. Its gradient is summed over parts that fit in the cache.

        A last batch of one image is skipped if the network has batch norm, because one image has no statistics.
        """
        epoch, batch = divmod(state.done, self.batches)
        if batch == 0:
            self.begin_epoch(epoch, state.optimizer)
        rows = next_rows(state.order, state.done, self.protocol.batch, runtime.generator("shuffle"))
        if batch and len(rows) == 1 and mixes_images(state.network):
            state.done += 1
            return {}
        share = Share(len(rows), runtime.processes, piece=state.at_once)
        if self.protocol.target == "stored":
            images, targets = self._from_stored(epoch, share.of(rows), state, runtime)
        else:
            examples = state.examples
            images, labels = shown(rows, examples, self.protocol, runtime)
            if isinstance(examples, ImageSource):
                examples.expect(rows_after(state.order, state.done, self.protocol.batch), runtime.device)
            at_once = len(rows) if self.protocol.teacher_statistics == "batch" else state.at_once
            images, targets = targeted(
                images,
                rows,
                examples,
                self.protocol,
                runtime,
                teacher=state.teacher,
                at_once=at_once,
                labels=labels,
                share=share,
            )
        images = layout.ordered(images, runtime)
        state.optimizer.zero_grad(set_to_none=True)
        total = images.new_zeros(())
        draws = drawing(runtime.generator("dropout"), runtime.device) if self.protocol.dropout else nullcontext()
        in_parts = share.alone or (state.rows_alone and not self.protocol.dropout)
        at_once = state.at_once if in_parts else len(rows)  # masks are drawn for all rows of a process
        with draws, share.within(rows_alone=state.rows_alone):
            for part, wanted in zip(images.split(at_once), targets.split(at_once), strict=True):
                loss = share.counted(state.loss(part, wanted) / len(rows), joined=state.joined)
                loss.backward()
                total += loss.detach()
        share.add_gradients(state.network.parameters(), total, joined=state.joined)
        state.optimizer.step()
        state.done += 1
        return {"loss": total}

    def begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """Set the step size and the momentum of an epoch."""
        set_lr(optimizer, self.protocol.lr_at(epoch))
        if self.protocol.schedule == "cut" and epoch == self.protocol.cut_epoch:
            optimizer.state.clear()
        if self.protocol.cut_momentum is not None and self.protocol.optimizer == "sgd":
            late = epoch >= self.protocol.cut_epoch
            for group in optimizer.param_groups:
                group["momentum"] = self.protocol.cut_momentum if late else self.protocol.momentum

    def _from_stored(self, epoch: int, rows: Tensor, state: Training, runtime: Runtime) -> tuple[Tensor, Tensor]:
        """The images as the teacher saw them in this epoch, and its logits. Labels mixed in the same way are second."""
        labels = labels_beside(state.examples)
        if state.stored is None or state.stored.labels is not labels or state.stored.number != epoch % labels.epochs:
            state.stored = labels.epoch(epoch, state.examples)
        images = state.stored.views.shown(state.examples.inputs, rows, runtime.device)
        answers = state.stored.answers(rows).to(runtime.device)
        if not self.protocol.label_weight:
            return images, answers
        targets = state.stored.mixed(state.examples.targets, rows, state.examples.shape[1:]).to(runtime.device)
        return images, torch.stack([answers, targets], dim=1)

    def result(self, state: Training, runtime: Runtime) -> "TrainedNetwork":
        """The trained network."""
        return TrainedNetwork(copy.deepcopy(state.network).eval(), self, state.examples.shape, state.examples.classes)

    def load(self, folder: Path) -> "TrainedNetwork":
        """Read a trained network."""
        return TrainedNetwork.load(folder)


class UnderMasks(nn.Module):
    """A network that gives the logits under each of several masks of dropout before its last layer.

    Raises:
        InputError: It is not one of attar's own networks.
    """

    def __init__(self, network: nn.Module, protocol: Protocol) -> None:
        super().__init__()
        if not isinstance(network, Network):
            raise InputError(
                f"dropout is {protocol.dropout:g}, but only attar's own networks are trained with it here."
            )
        self.network, self.p, self.samples = network, protocol.dropout, protocol.dropout_samples

    def forward(self, images: Tensor) -> Tensor:
        """Logits, `[masks, sample, classes]`."""
        logits: Tensor = self.network.classifier(masked(self.network.embed(images), self.p, self.samples))
        return logits


def optimizer_for(
    parameters: Sequence[nn.Parameter], protocol: Protocol, *, stacked: bool = False
) -> torch.optim.Optimizer:
    """The optimiser of a protocol.

    Args:
        parameters: Those of a network.
        protocol: The protocol.
        stacked: Whether each holds those of several networks, along its first axis.
    """
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(parameters, protocol.lr, momentum=protocol.momentum, weight_decay=protocol.weight_decay)
    return adamw(parameters, protocol.lr, weight_decay=protocol.weight_decay, axes=2 if stacked else 1)


@dataclass
class TrainedNetwork:
    """A network with its parameters, stored as safetensors."""

    network: nn.Module
    method: TrainNetwork
    shape: tuple[int, int, int]
    classes: tuple[str, ...]

    def of(self, data: Examples, who: str, say: Callable[[str], None] | None = None) -> "TrainedNetwork":
        """The same network for the classes of these data: their outputs by name, in their order.

        Args:
            data: The data.
            who: The network, for messages.
            say: Function that prints a line, which is told if the order of classes is assumed.

        Raises:
            InputError: The network has other classes, or takes images of another shape.
        """
        told = getattr(data, "name", "the set")
        if self.shape != data.shape:
            raise InputError(
                f"{who} was trained on {len(self.classes)} classes of {self.shape}, but {told} has "
                f"{len(data.classes)} of {data.shape}. Choose another network."
            )
        if self.classes == data.classes:
            return self
        columns = columns_of(self.classes, len(self.classes), data.classes, who=who, data=told, say=say)
        network = self.network if columns is None else choosing(copy.deepcopy(self.network), columns)
        return replace(self, network=network, classes=data.classes)

    def save(self, folder: Path) -> str:
        """Write the network to a folder, and return its digest."""
        plain = {"settings": self.method.to_json(), "shape": list(self.shape), "classes": list(self.classes)}
        return store.write_tensors(folder / "network.safetensors", self.network.state_dict(), plain)

    @property
    def learned(self) -> dict[str, Tensor]:
        """The network's weights, and the statistics of its batch norm."""
        return dict(self.network.state_dict())

    @property
    def parts(self) -> list[dict[str, Tensor]]:
        """The tensors that are saved with a set that the network labels, one entry per file."""
        return [self.network.state_dict()]

    def note(self, images: int) -> str:
        """The sentence of a card about the network."""
        return "The network in `teacher/` labels augmented images; its bytes are counted."

    def picture(self) -> None:
        """A network has no picture."""

    @classmethod
    def load(cls, folder: Path, *, digest: str | None = None) -> "TrainedNetwork":
        """Read what `save` wrote, and check its digest.

        Raises:
            InputError: The file is missing or damaged, or it has another digest.
        """
        path = folder / "network.safetensors"
        tensors, plain = store.read_tensors(path)
        if digest is not None and store.digest_of(tensors, plain) != digest:
            raise InputError(f"{path} is not the file that artefact.json describes.")
        method, shape = TrainNetwork.from_json(plain["settings"]), tuple(plain["shape"])
        network = method.architecture.build(shape, len(plain["classes"]), torch.Generator())
        network.load_state_dict(tensors)
        return cls(network.eval(), method, shape, tuple(plain["classes"]))
