"""Shared parts of gradient matching: gradients of class batches, their row-wise distance, and the loop over networks.

A network is drawn at random. Matches alternate with short trainings on the synthetic images; then the next network is
drawn. A match moves the pixels so that their gradient in the network's weights comes nearer to that of real images. The
method decides which classes are matched together: each alone (DC, DSA), or all at once (DCC).
Zhao, Mopuri and Bilen, Dataset Condensation with Gradient Matching, ICLR 2021, arXiv:2006.05929.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value

from attar.core.engine import Metrics
from attar.core.runtime import Runtime
from attar.core.selection import draw_rows, labels_of
from attar.core.sending import sent
from attar.core.settings import Range
from attar.core.state import rebuilt
from attar.images import layout
from attar.images.artefact import CondensedImages
from attar.images.condense.starts import MatchedToReal, check_start, learned, start_images
from attar.images.networks.architecture import Architecture, mixes_images, multiply_adds
from attar.images.protocols import Protocol
from attar.images.sources import ImageSource
from attar.images.training import Training, TrainNetwork
from attar.images.views.augment import Draw, augment, draw_pair, strategy

Images = Float[Tensor, "image channel height width"]
Weights = dict[str, Tensor]
"""Parameters, or their gradients, by name."""
Metric = Literal["layerwise", "mse", "cos"]

LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""Matching steps per network, and epochs of training between them, by images per class, as in DC's code."""
STATISTICS_IMAGES = 16
"""Number of real images of each class from which batch norm takes its statistics before every match."""
SECOND_ORDER_IMAGES = 256
"""Number of 32×32 images whose second-order graph is in memory at once: about 2 GB with the field's ConvNet."""


@dataclass
class Matching:
    """The synthetic images during learning, and the network that trains on them."""

    images: Tensor
    optimizer: torch.optim.SGD
    network: nn.Module
    done: int = 0
    labels: Tensor = rebuilt(default=None)
    source: Any = rebuilt(default=None)
    training: Training = rebuilt(default=None)
    trainer: TrainNetwork = rebuilt(default=None)
    gradient: Callable[..., Weights] = rebuilt(default=None)
    """Gradient of a weighted sum of losses. The gradient of real images is not differentiated again, so it has the
    precision of passes without a gradient. In bfloat16 that changes the pixels' gradient by 3 to 6 %; another draw of
    real images changes it by 60 to 100 %."""
    matched: Callable[..., tuple[Tensor, Tensor]] = rebuilt(default=None)
    """Gradient in the images of the distance from a real gradient, and the distance."""
    pulled: Callable[..., Tensor] = rebuilt(default=None)
    """Gradient in the images of the product of the weight gradient with a given direction."""
    at_once: int = rebuilt(default=0)


@dataclass(frozen=True)
class Side:
    """The real or the synthetic images of a group of classes in a match, cut where they are passed on in parts."""

    rows: tuple[Int[Tensor, " _part"], ...]
    labels: tuple[Int[Tensor, " _part"], ...]
    shares: tuple[Float[Tensor, " _part"], ...]
    """The weight of each image in the mean over classes."""
    draws: tuple[Draw | None, ...]


@dataclass
class Synthetic:
    """The current synthetic images as examples to train on."""

    state: Matching
    augmentation: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.state.source.shape

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.state.source.classes

    @property
    def flips(self) -> bool:
        """Whether a mirrored image keeps its label."""
        return self.state.source.flips

    @property
    def targets(self) -> Int[Tensor, " image"]:
        """Hard labels."""
        return self.state.labels

    @property
    def fingerprint(self) -> str:
        """Empty, because the images change with every step."""
        return ""

    def inputs(self, rows: Int[Tensor, " batch"], device: torch.device | str = "cpu") -> Tensor:
        """Images of these rows."""
        return self.state.images.detach()[rows]

    def home(self, device: torch.device) -> torch.device:
        """Where the images are: on the device."""
        return device


@dataclass(frozen=True, kw_only=True)
class GradientMatching(MatchedToReal):
    """Settings and loop that DC and its descendants share.

    A step is one match. Before it a new network is drawn, or the current one is trained on the synthetic images. Memory
    is that of the second-order graph of one class, or of `SECOND_ORDER_IMAGES` images if classes are matched together.
    """

    network_draws: Annotated[int, Range(1)] | None = None
    """Number of networks that are drawn in all. Default: 1,000 on a GPU; on a CPU as many as make 1,000 matches."""
    matches: Annotated[int, Range(1)] | None = None
    """Number of matching steps with each network. Default: as in the released code, one per image of a class."""
    network_epochs: Annotated[int, Range(0)] | None = None
    """Number of epochs of a network's training on the synthetic images between two matches. Default: as in the released
    code."""
    lr: Annotated[float, Range(0)] = 0.1
    """Step size on normalised pixels."""
    network_lr: Annotated[float, Range(0)] = 0.01
    """Step size of the networks' training by plain SGD."""
    network_batch: Annotated[int, Range(1)] = 256
    """Number of synthetic images in a batch of the networks' training."""
    metric: Metric = "layerwise"
    """Distance of gradients. layerwise: 1 - cosine, summed over the rows of every weight. mse: squared difference,
    summed over all parameters. cos: 1 - cosine over all parameters."""
    relative_epsilon: bool = False
    """Whether the 10⁻⁶ in the cosine is relative to the gradients' lengths. In the code it is absolute. Well-trained
    networks have short gradients, and then an absolute 10⁻⁶ makes aligned rows look unaligned."""
    architecture: Architecture = field(default_factory=Architecture)
    """The networks whose gradients are matched."""
    augmentation: str | None = None
    """DSA operations joined by underscores, or none. Default: none."""

    moved = MappingProxyType({"networks": "network_draws", "epochs": "network_epochs"})
    name = "gradient-matching"
    shares = True

    def groups(self, done: int, classes: int, runtime: Runtime) -> list[list[int]]:
        """The groups of classes that are matched together in this match; here each class alone.

        Args:
            done: Number of matches before.
            classes: Number of classes.
            runtime: Source of random numbers, if groups are drawn.
        """
        return [[label] for label in range(classes)]

    def loops(self, ipc: int) -> tuple[int, int]:
        """Matching steps per network, and epochs between them, for a number of images per class."""
        return LOOPS.get(ipc, (ipc, max(1, round(500 / ipc))))

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the settings without a value from image size, ipc and device."""
        on_gpu = runtime.device.type != "cpu"
        strategy(self.augmentation or "none")
        check_start(self.start, self.ipc, source)
        matches, epochs = self.loops(max(self.counts(source)))
        matches = self.matches or matches
        return replace(
            self,
            matches=matches,
            network_epochs=epochs if self.network_epochs is None else self.network_epochs,
            network_draws=self.network_draws or (1000 if on_gpu else max(1, round(1000 / matches))),
            real_batch=self.real_batch or (256 if on_gpu else 64),
            augmentation=self.augmentation or "none",
            architecture=self.architecture.resolve(source.shape),
        )

    @property
    def total_steps(self) -> int:
        """Number of matching steps in all."""
        assert self.network_draws is not None and self.matches is not None, "resolve the settings first"
        return self.network_draws * self.matches

    def work(self, source: ImageSource) -> float:
        """Multiply-adds of the whole run: real gradients, second-order gradients, and the training between matches."""
        assert self.real_batch is not None and self.network_epochs is not None, "resolve the settings first"
        network = self.architecture.build(source.shape, len(source.classes), torch.Generator())
        synthetic = sum(self.counts(source))
        images = 3 * sum(min(self.real_batch, len(rows)) for rows in source.rows_of) + 9 * synthetic
        images += 3 * synthetic * self.network_epochs
        return float(multiply_adds(network, source.shape)) * images * self.total_steps

    def build(self, source: ImageSource, runtime: Runtime) -> Matching:
        """Synthetic images at their start, and a network whose parameters are drawn in the first step."""
        images = start_images(self.start, self.ipc, source, runtime).to(runtime.device).requires_grad_()
        network = self.architecture.build(source.shape, len(source.classes), torch.Generator())
        state = Matching(
            images=images,
            optimizer=torch.optim.SGD([images], self.lr, momentum=self.momentum),
            network=network,
            labels=labels_of(self.ipc, len(source.classes)),
            source=source,
            at_once=layout.at_once(source.shape, runtime),
        )
        examples = Synthetic(state, self.augmentation or "none")
        state.trainer = TrainNetwork(architecture=self.architecture, protocol=self._protocol).resolve(examples)
        state.training = state.trainer.build_with(network, examples, runtime)
        state.gradient = runtime.compiled(partial(weight_gradient, network))
        distance = partial(gradient_distance, metric=self.metric, relative=self.relative_epsilon)
        state.matched = runtime.compiled(partial(image_gradient, network, distance), training=True)
        state.pulled = runtime.compiled(partial(pulled_gradient, network), training=True)
        return state

    @property
    def _protocol(self) -> Protocol:
        """Training of a network between two matches: plain SGD at one step size."""
        return Protocol(
            name="between matches",
            epochs=max(self.network_epochs or 0, 1),
            batch=self.network_batch,
            lr=self.network_lr,
            momentum=0.0,
            weight_decay=0.0,
            cut_after=1.0,
            augmented=self.augmentation != "none",
        )

    def step(self, state: Matching, runtime: Runtime) -> Metrics:
        """Draw or train the network, match once, and update the pixels."""
        assert self.matches is not None and self.real_batch is not None
        if state.done % self.matches == 0:
            state.trainer.restart(state.training, runtime)
        elif self.network_epochs:
            self._train(state, runtime)
        freeze_statistics(state, runtime)
        classes = len(state.source.classes)
        rows = draw_rows(state.source.rows_of, self.real_batch, runtime.generator("batches"))
        operations = strategy(self.augmentation or "none")
        draws = draw_pair(classes, operations, runtime.generator("augment"), siamese=self.siamese)
        groups = self.groups(state.done, classes, runtime)
        state.images.grad = torch.zeros_like(state.images)
        mine = [groups[index] for index in runtime.processes.share(len(groups))]
        here = [self._sides(group, rows, draws, state) for group in mine]
        there = sent(here, runtime.device)
        looked_up = here if state.source.home(runtime.device).type == "cpu" else there
        loss = state.images.new_zeros(())
        for (real, synthetic), (found, _) in zip(there, looked_up, strict=True):
            loss = loss + self._match(real, found.rows, synthetic, state, runtime)
        runtime.processes.sum_(state.images.grad)
        state.optimizer.step()
        state.done += 1
        return {"loss": runtime.processes.sum_(loss)}

    def result(self, state: Matching, runtime: Runtime) -> CondensedImages:
        """The current synthetic images."""
        return learned(state.images, state.labels, state.source, self, runtime)

    def _train(self, state: Matching, runtime: Runtime) -> None:
        """Train the network for some epochs on the current synthetic images."""
        state.network.train()
        state.training.done = 0
        for _ in range(state.trainer.total_steps):
            state.trainer.step(state.training, runtime)

    def _sides(
        self, group: list[int], rows: Int[Tensor, " row"], draws: tuple[Draw | None, Draw | None], state: Matching
    ) -> tuple[Side, Side]:
        """The real and the synthetic images of a group."""
        wanted = torch.tensor(group)
        rows = rows[torch.isin(state.source.targets[rows], wanted)]
        mine = torch.nonzero(torch.isin(state.labels, wanted)).flatten()
        of_real, of_synthetic = state.source.targets[rows], state.labels[mine]
        dtype = state.images.dtype
        return (
            _side(rows, of_real, draws[0], state.at_once, dtype),
            _side(mine, of_synthetic, draws[1], max(1, len(mine)), dtype),
        )

    def _match(
        self, real: Side, rows: Sequence[Int[Tensor, " _part"]], synthetic: Side, state: Matching, runtime: Runtime
    ) -> Float[Tensor, ""]:
        """The distance of a group's gradients; its image gradient is added to `state.images.grad`."""
        weights, others = self._split(state.network)
        batches = [state.source.inputs(part, runtime.device) for part in rows]
        with torch.no_grad():
            wanted = self._gradient(state, weights, others, batches, real, runtime)
        images = state.images.detach().requires_grad_()
        (mine,), (labels,), (share,), (draw,) = synthetic.rows, synthetic.labels, synthetic.shares, synthetic.draws
        seen = self._augmented(images[mine], draw, runtime)
        limit = max(1, int(SECOND_ORDER_IMAGES * 1024 / (images.shape[2] * images.shape[3])))
        if len(mine) <= limit:
            pull, loss = state.matched(seen.detach(), labels, share, weights, others, wanted)
        else:
            pull, loss = self._match_by_parts(seen.detach(), labels, share, weights, others, wanted, state, limit)
        seen.backward(pull)
        assert images.grad is not None and state.images.grad is not None
        state.images.grad += images.grad
        return loss.detach()

    def _match_by_parts(
        self,
        images: Images,
        labels: Int[Tensor, " image"],
        share: Float[Tensor, " image"],
        weights: Weights,
        others: Weights,
        real: Weights,
        state: Matching,
        limit: int,
    ) -> tuple[Images, Float[Tensor, ""]]:
        """The image gradient and the distance, in the memory of `limit` images.

        The whole weight gradient comes first, then the derivative of the distance in it, then the image gradient by
        parts.
        """
        parts = list(zip(images.split(limit), labels.split(limit), share.split(limit), strict=True))
        total: Weights = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for part in parts:
            found = weight_gradient(state.network, *part, weights, others)
            total = {name: total[name] + found[name] for name in total}
        distance = partial(gradient_distance, real, metric=self.metric, relative=self.relative_epsilon)
        direction, loss = grad_and_value(distance)(total)
        return torch.cat([state.pulled(*part, weights, others, direction) for part in parts]), loss

    def _gradient(
        self,
        state: Matching,
        weights: Weights,
        others: Weights,
        batches: list[Tensor],
        of: Side,
        runtime: Runtime,
    ) -> Weights:
        """Gradient of the mean over classes of their mean losses, computed on a few images at a time."""
        total: Weights = {}
        for images, labels, share, draw in zip(batches, of.labels, of.shares, of.draws, strict=True):
            images = self._augmented(images, draw, runtime)
            found = state.gradient(images, labels, share, weights, others)
            total = {name: total[name] + value if total else value for name, value in found.items()}
        return total

    def _augmented(self, images: Images, draw: Draw | None, runtime: Runtime) -> Images:
        if draw is not None:
            images = augment(images, draw)
        return layout.ordered(images, runtime)

    def _split(self, network: nn.Module) -> tuple[Weights, Weights]:
        """The parameters whose gradients are compared, and all other parameters and buffers.

        The row-wise distance ignores parameters of one dimension, so their gradients are not computed.
        """
        weights = {
            name: parameter.detach()
            for name, parameter in network.named_parameters()
            if parameter.ndim > 1 or self.metric != "layerwise"
        }
        others = {name: value.detach() for name, value in [*network.named_parameters(), *network.named_buffers()]}
        return weights, {name: value for name, value in others.items() if name not in weights}


def _side(
    rows: Int[Tensor, " image"],
    labels: Int[Tensor, " image"],
    draw: Draw | None,
    at_once: int,
    dtype: torch.dtype,
) -> Side:
    parts = labels.split(at_once)
    return Side(
        rows=rows.split(at_once),
        labels=parts,
        shares=class_shares(labels).to(dtype).split(at_once),
        draws=tuple(None if draw is None else draw.repeat(part).counted() for part in parts),
    )


def weight_gradient(
    network: nn.Module,
    images: Images,
    labels: Int[Tensor, " image"],
    share: Float[Tensor, " image"],
    weights: Weights,
    others: Weights,
) -> Weights:
    """Gradient in `weights` of Σ shareᵢ · cross-entropy(image i)."""

    def loss(weights: Weights) -> Float[Tensor, ""]:
        logits = functional_call(network, {**weights, **others}, (images,))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return (share * F.cross_entropy(logits, labels, reduction="none")).sum()

    return grad(loss)(weights)


def image_gradient(
    network: nn.Module,
    distance: Callable[[Weights, Weights], Float[Tensor, ""]],
    images: Images,
    labels: Int[Tensor, " image"],
    share: Float[Tensor, " image"],
    weights: Weights,
    others: Weights,
    real: Weights,
) -> tuple[Images, Float[Tensor, ""]]:
    """Gradient in the images of the distance between their weight gradient and the real one, and that distance.

    Both derivatives are taken inside one function, which can be compiled as a whole. The compiler refuses the second
    derivative of a compiled module.
    """

    def loss(images: Images) -> Float[Tensor, ""]:
        return distance(real, weight_gradient(network, images, labels, share, weights, others))

    return grad_and_value(loss)(images)


def pulled_gradient(
    network: nn.Module,
    images: Images,
    labels: Int[Tensor, " image"],
    share: Float[Tensor, " image"],
    weights: Weights,
    others: Weights,
    direction: Weights,
) -> Images:
    """Gradient in the images of the product of their weight gradient with a direction."""

    def product(images: Images) -> Float[Tensor, ""]:
        found = weight_gradient(network, images, labels, share, weights, others)
        return torch.stack([(found[name] * direction[name]).sum() for name in found]).sum()

    return grad(product)(images)


def gradient_distance(
    real: Weights, synthetic: Weights, *, metric: Metric = "layerwise", relative: bool = False
) -> Float[Tensor, ""]:
    """Distance between two gradients (Zhao et al., arXiv:2006.05929, equations 9 and 10).

    Args:
        real: Gradients on real images, by parameter.
        synthetic: Gradients on synthetic images, by parameter.
        metric: `layerwise` sums 1 - cosine over the rows of every parameter of two dimensions or more, one row per
            output (in a convolution a row is one filter), and ignores vectors. `mse` is the sum of squared differences
            of all parameters. `cos` is 1 - cosine over all parameters together.
        relative: Whether the 10⁻⁶ that keeps the cosine finite is relative to the lengths.
    """
    pairs = [(real[name], synthetic[name]) for name in synthetic]
    if metric == "layerwise":
        rows = [(a.flatten(1), b.flatten(1)) for a, b in pairs if a.ndim > 1]
        return torch.stack([_row_distance(a, b, relative) for a, b in rows]).sum()
    first, second = (torch.cat([pair[side].flatten() for pair in pairs]) for side in (0, 1))
    if metric == "mse":
        return (first - second).square().sum()
    return _row_distance(first.unsqueeze(0), second.unsqueeze(0), relative)


def _row_distance(a: Float[Tensor, "row entry"], b: Float[Tensor, "row entry"], relative: bool) -> Float[Tensor, ""]:
    lengths = a.norm(dim=1) * b.norm(dim=1)
    floor = 1e-6 * lengths + torch.finfo(lengths.dtype).tiny if relative else 1e-6
    return (1 - (a * b).sum(dim=1) / (lengths + floor)).sum()


def class_shares(labels: Int[Tensor, " image"]) -> Float[Tensor, " image"]:
    """The weight of each image in the mean over classes of class means."""
    counts = torch.bincount(labels)
    return 1 / (counts[labels] * (counts > 0).sum()).double()


@torch.no_grad()
def freeze_statistics(state: Matching, runtime: Runtime) -> None:
    """Compute the statistics of batch norm, if there is any, from real images of all classes, and freeze them."""
    if not mixes_images(state.network):
        return
    rows = draw_rows(state.source.rows_of, STATISTICS_IMAGES, runtime.generator("statistics"))
    images = layout.ordered(state.source.inputs(rows, runtime.device), runtime)
    state.network.train()(images)
    for module in state.network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
