"""Shared parts of distribution matching: class means of views of random networks, and one pixel step per network.

A *view* is the part of a network's features that a method compares, one vector per image. DM's view is the embedding;
DataDAM has also the spatial attention of every block. Only the sum of each view over each class is kept, so memory does
not grow with the number of real images.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.selection import draw_rows, labels_of
from attar.core.sending import sent
from attar.core.settings import Range
from attar.core.state import rebuilt
from attar.images import layout
from attar.images.artefact import CondensedImages
from attar.images.condense.starts import MatchedToReal, check_start, learned, start_images
from attar.images.networks.architecture import Architecture, mixes_images, multiply_adds, redraw_
from attar.images.sources import ImageSource
from attar.images.views.augment import Draw, augment, default_strategy, draw_pair, strategy

Views = list[Float[Tensor, "image _view"]]
ClassMeans = list[Float[Tensor, "class _view"]]


@dataclass
class Condensing:
    """The synthetic images during learning, and the network that is drawn again for every step."""

    images: Tensor
    optimizer: torch.optim.SGD
    labels: Tensor = rebuilt()
    mine: Any = rebuilt()
    """An index of the synthetic images whose classes this process works on."""
    source: Any = rebuilt()
    network: nn.Module = rebuilt()
    views: Callable[[Tensor], Views] = rebuilt()
    """Views of a batch, with a gradient."""
    real_views: Callable[[Tensor], Views] = rebuilt()
    """Views of a batch without a gradient, in the precision of such passes."""
    at_once: int = rebuilt()


@dataclass(frozen=True)
class Sample:
    """What goes with the images of one side in a step: labels and draws, a few images at a time; images per class."""

    labels: tuple[Int[Tensor, " _part"], ...]
    draws: tuple[Draw | None, ...]
    counts: Float[Tensor, " class"]


@dataclass(frozen=True, kw_only=True)
class DistributionMatching(MatchedToReal):
    """Settings and loop that DM and its descendants share.

    Memory grows with the number of synthetic images, but not with the number of steps or of real images. A few real
    images are processed at a time, and only sums are kept. Batch norm is the exception: it needs the real images of all
    classes in one batch.
    """

    steps: Annotated[int, Range(1)] | None = None
    """Steps in all, each with a new random network. Default: 10,000 on a GPU, 1,000 on a CPU."""
    lr: Annotated[float, Range(0)] | None = None
    """Step size on normalised pixels. Default: 10 if every class has more than 50 synthetic images, otherwise 1."""
    architecture: Architecture = field(default_factory=Architecture)
    """The network whose features are matched."""
    augmentation: str | None = None
    """DSA operations joined by underscores, or none. Default: the field's six operations, five for digits."""
    align_corners: bool = False
    """Corner convention of scale and rotate (see attar.images.views.augment)."""
    zca: bool = False
    """Whether images are ZCA-whitened (ε = 0.1). The whitening is fitted once on the real training images."""

    name = "distribution-matching"
    shares = True

    @abstractmethod
    def views(self, maps: list[Tensor], embedding: Tensor) -> Views:
        """The views of a network's maps `[image, filter, height, width]` and embedding `[image, feature]`."""

    @abstractmethod
    def terms(self, real: ClassMeans, synthetic: ClassMeans) -> dict[str, Float[Tensor, ""]]:
        """The loss, under the key `"loss"`, and its parts."""

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the settings without a value from image size, ipc and device."""
        on_gpu = runtime.device.type != "cpu"
        augmentation = default_strategy(source.flips) if self.augmentation is None else self.augmentation
        strategy(augmentation)
        fewest = min(self.counts(source))
        check_start(self.start, self.ipc, source)
        return replace(
            self,
            steps=self.steps or (10_000 if on_gpu else 1_000),
            lr=self.lr if self.lr is not None else (1.0 if fewest <= 50 else 10.0),
            real_batch=self.real_batch or (256 if on_gpu else 64),
            augmentation=augmentation,
            architecture=self.architecture.resolve(source.shape),
        )

    @property
    def total_steps(self) -> int:
        """Number of pixel updates in all."""
        assert self.steps is not None, "resolve the settings first"
        return self.steps

    def work(self, source: ImageSource) -> float:
        """Multiply-adds of the whole run: one pass of real images, and the cost of three passes of synthetic images."""
        assert self.real_batch is not None, "resolve the settings first"
        network = self.architecture.build(source.shape, len(source.classes), torch.Generator())
        images = sum(min(self.real_batch, len(rows)) for rows in source.rows_of)
        images += 3 * sum(self.counts(source))
        return float(multiply_adds(network, source.shape)) * images * self.total_steps

    def build(self, source: ImageSource, runtime: Runtime) -> Condensing:
        """Synthetic images at their start, and a network whose parameters are drawn in every step."""
        if self.zca:
            source = source.whitened()
        images = start_images(self.start, self.ipc, source, runtime).to(runtime.device).requires_grad_()
        assert self.lr is not None, "resolve the settings first"
        network = self.architecture.build(source.shape, len(source.classes), torch.Generator())
        layout.place(network, runtime).train().requires_grad_(False)
        labels = labels_of(self.ipc, len(source.classes))
        self._check_processes(network, source, runtime)

        def views(batch: Tensor) -> Views:
            maps, embedding = network.features(batch)
            return self.views([m.float() for m in maps], embedding.float())

        return Condensing(
            images=images,
            optimizer=torch.optim.SGD([images], self.lr, momentum=self.momentum),
            labels=labels,
            mine=_of_these_classes(labels, runtime),
            source=source,
            network=network,
            views=runtime.compiled(views, training=True),
            real_views=runtime.compiled(views),
            # Batch statistics are over all classes, so a network that mixes images needs them in one batch.
            at_once=2**31 if mixes_images(network) else layout.at_once(source.shape, runtime),
        )

    def step(self, state: Condensing, runtime: Runtime) -> Metrics:
        """Draw a network, match class means once, and update the pixels."""
        redraw_(state.network, runtime.generator("network", str(runtime.device)))
        assert self.real_batch is not None
        rows = draw_rows(state.source.rows_of, self.real_batch, runtime.generator("batches"))
        rows = rows[_of_these_classes(state.source.targets[rows], runtime)]
        classes = len(state.source.classes)
        operations, generator = strategy(self.augmentation or "none"), runtime.generator("augment")
        draws = draw_pair(classes, operations, generator, siamese=self.siamese)
        sides = [
            sample(labels, draw, classes, state.at_once)
            for labels, draw in zip((state.source.targets[rows], state.labels[state.mine]), draws, strict=True)
        ]
        parts = rows.split(state.at_once)
        (real, synthetic), there = sent((sides, parts), runtime.device)
        parts = parts if state.source.home(runtime.device).type == "cpu" else there
        with torch.no_grad():
            batches = (state.source.inputs(part, runtime.device) for part in parts)
            wanted = self._means(batches, real, state.real_views, runtime)
        found = self._means(state.images[state.mine].split(state.at_once), synthetic, state.views, runtime)
        terms = self.terms(wanted, found)
        state.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        assert state.images.grad is not None
        # The pixels of other processes' classes have gradient zero here, so the sum is the whole gradient.
        runtime.processes.sum_(state.images.grad)
        state.optimizer.step()
        return {name: runtime.processes.sum_(value.detach()) for name, value in terms.items()}

    def result(self, state: Condensing, runtime: Runtime) -> CondensedImages:
        """The current synthetic images."""
        return learned(state.images, state.labels, state.source, self, runtime)

    def _means(
        self, batches: Iterable[Tensor], of: Sample, views: Callable[[Tensor], Views], runtime: Runtime
    ) -> ClassMeans:
        """Class means of every view for this process's classes, computed on a few images at a time."""
        sums: list[Tensor] = []
        for images, labels, draw in zip(batches, of.labels, of.draws, strict=True):
            if draw is not None:
                images = augment(images, draw, align_corners=self.align_corners)
            seen = views(layout.ordered(images, runtime))
            sums = sums or [view.new_zeros(len(of.counts), view.shape[1]) for view in seen]
            sums = [total.index_add(0, labels, view) for total, view in zip(sums, seen, strict=True)]
        processes = runtime.processes
        return [(total / of.counts.unsqueeze(1))[processes.rank :: processes.count] for total in sums]

    def _check_processes(self, network: nn.Module, source: ImageSource, runtime: Runtime) -> None:
        count = runtime.processes.count
        if count > 1 and mixes_images(network):
            raise InputError(
                f"batch norm needs all classes in one batch, so {count} processes cannot share them; "
                "use --norm instance, or one process."
            )
        if count > len(source.classes):
            raise InputError(
                f"{count} processes are too many to share {len(source.classes)} classes; start one process per class "
                "or fewer."
            )


def _of_these_classes(labels: Int[Tensor, " image"], runtime: Runtime) -> Any:
    """An index of the images whose classes this process works on; a plain slice if it works on all classes."""
    rank, count = runtime.processes.rank, runtime.processes.count
    return slice(None) if count == 1 else torch.nonzero(labels % count == rank).flatten()


def sample(labels: Int[Tensor, " image"], draw: Draw | None, classes: int, at_once: int) -> Sample:
    """Labels in parts of `at_once`, with the draw of its class for each image."""
    parts = labels.split(at_once)
    draws = tuple(None if draw is None else draw.repeat(part).counted() for part in parts)
    return Sample(parts, draws, class_counts(labels, classes))


def class_counts(labels: Int[Tensor, " image"], classes: int) -> Float[Tensor, " class"]:
    """Number of images of each class in a batch."""
    return torch.bincount(labels, minlength=classes).float()


def squared_distance(first: Float[Tensor, "class view"], second: Float[Tensor, "class view"]) -> Float[Tensor, ""]:
    """Σ over classes of ‖first - second‖², summed over features and not averaged."""
    return (first - second).square().sum()
