"""SRe2L: squeeze a data set into a trained network, then recover images from its batch-norm statistics.

Prefer it if steps over all real images are too expensive. Once the network is trained no real image is used again, and
the work for a class does not grow with the data. On small images it is weak: random real images with labels of the same
teacher are better there, and `attar evaluate` shows them beside it. Its students learn from the teacher
(`--protocol rded`) or from labels stored for many views (`attar label`, then `--protocol sre2l`).
Yin, Xing and Shen, Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New Perspective,
NeurIPS 2023, arXiv:2306.13092. Settings are those of the released scripts.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.seeds import uniform
from attar.core.selection import draw_rows, labels_of, per_class
from attar.core.sending import sent
from attar.core.settings import Hidden, Range, Role
from attar.core.state import rebuilt
from attar.core.training import half_cosine, set_lr
from attar.images import layout
from attar.images.artefact import CondensedImages, Origin
from attar.images.condense.coresets import ImagesPerClass
from attar.images.condense.recover import (
    UNIFORMS,
    Scale,
    Watch,
    check_norms,
    mean_length,
    seen_through,
    total_variation,
    view_from,
)
from attar.images.data.pixels import eight_bits
from attar.images.networks.architecture import multiply_adds
from attar.images.sources import ImageSource
from attar.images.trained import BATCH_NORM, Auxiliary, Saved

CROPPED_SIDE = 64
"""Image side from which views are crops. The scripts crop and mirror for Tiny-ImageNet and ImageNet, not for CIFAR."""

BETAS = (0.5, 0.9)
"""Adam's decay rates in the scripts."""


@dataclass(frozen=True)
class Block:
    """Images of different classes that are recovered together, with common batch statistics."""

    number: int
    rows: Int[Tensor, " image"]
    """The places of these images in the result."""


@dataclass
class Recovering:
    """The images of the blocks that are being recovered, and the finished images."""

    images: Tensor
    optimizer: torch.optim.Adam
    finished: Tensor
    """All images as 8-bit pixels; zero if they are not recovered yet."""
    done: int = 0
    source: Any = rebuilt(default=None)
    starts: Tensor | None = rebuilt(default=None)
    """The training row from which each image starts, if it starts from a real image."""
    plan: list[list[Block]] = rebuilt(default_factory=list)
    """Groups of blocks that are recovered at once, in order."""
    labels: Tensor = rebuilt(default=None)
    loss: Callable[..., tuple[Tensor, Tensor, Tensor]] = rebuilt(default=None)
    """The loss, summed over blocks, and its two main parts."""
    watch: Watch = rebuilt(default=None)
    ends: tuple[Tensor, Tensor] = rebuilt(default=None)
    """Black and white as network input."""
    teacher: Saved | None = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class SRe2L(ImagesPerClass):
    """Recover images from a trained network and its batch-norm statistics (NeurIPS 2023, arXiv:2306.13092).

    Images are recovered in blocks of one image from each of up to `block` classes. A block starts from noise and takes
    `block_steps` steps of Adam on random views. Its loss is CE + α Σ_l k_l (‖v_l - RV_l‖ + ‖μ_l - RM_l‖). v and μ are
    the block's statistics in the l-th batch norm, and RV and RM are its running statistics of the real images. A block
    has one crop, flip and roll per step. The last iterate is the result, stored in 8 bits. Memory is that of one block
    and of the finished pixels.
    """

    block_steps: Annotated[int, Range(1)] | None = None
    """Number of steps for each block. Default: 4,000 on a GPU, 500 on a CPU."""
    block: Annotated[int, Range(1)] = 100
    """Number of images in a block, each of a different class. With fewer classes a block has one image of each
    class."""
    image_lr: Annotated[float, Range(0)] = 0.25
    """Step size on pixels, which are normalised. It falls to zero along a cosine within each block."""
    statistics_weight: Annotated[float, Range(0)] = 0.01
    """Weight of the batch-norm term, α. The scripts use 0.01 to 1, because the norms sum over a teacher's channels."""
    first_weight: Annotated[float, Range(0)] = 10.0
    """Weight of the first batch-norm layer, k. The other layers have weight 1."""
    bn_scale: Scale = "sum"
    """Scale of the batch-norm term. sum: the norms are summed over layers, as in the papers. channel: they are divided
    by √channels and averaged over layers. layer: they are divided by the norms of the layer's statistics and averaged
    over layers. With channel or layer one α suits all teachers."""
    crop: Literal["auto", "on", "off"] = "auto"
    """Whether views are random resized crops. auto: on for images of at least 64 pixels, otherwise off."""
    mirror: Literal["auto", "on", "off"] = "auto"
    """Whether half of the views are mirrored. auto: where views are crops and a mirrored image keeps its class."""
    smallest_crop: Annotated[float, Range(0.001, 1)] = 0.08
    """Smallest share of an image's area in a crop."""
    jitter: int | None = None
    """Largest shift of a view, in pixels. The view is rolled along both axes. Default: an eighth of the image side."""
    jitter_from: int = 0
    """Smallest shift of a view, in pixels. A negative shift is in the opposite direction."""
    variation_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the total variation. It is 0 in every released recipe."""
    length_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the images' mean length ‖x‖₂. It is 0 in every released recipe."""
    start: Literal["noise", "real"] = "noise"
    """What the result is before the first step: standard normal noise (noise), or random real images (real)."""
    rounding: Literal["down", "nearest"] = "down"
    """Rounding of learned values to 8-bit pixels: truncation, as in the scripts (down), or to the nearest (nearest)."""
    labels: Literal["hard", "teacher"] = "teacher"
    """Labels that the images get. hard: class numbers. teacher: class numbers, and the teacher is saved with the set
    for protocols that learn from it."""
    blocks_at_once: Annotated[int, Range(1)] | None = None
    """Number of blocks recovered in parallel, each with its own statistics and views. Several processes share them.
    Default: as many as fill a GPU, one on a CPU."""
    teacher: Annotated[Auxiliary, Role()] = BATCH_NORM
    """The network whose batch-norm statistics the images match. Its folder may be transformers:NAME_OR_FOLDER of a
    classifier of the same classes, or that of a student or an imported teacher."""
    classes: Annotated[int, Hidden()] = 0
    """Number of classes, from the data."""

    moved = MappingProxyType(
        {
            "teacher": "teacher.folder",
            "architecture": "teacher.architecture",
            "protocol": "teacher.protocol",
            "iterations": "block_steps",
        }
    )
    name = "sre2l"
    shares = True

    def smallest_at(self, iteration: int) -> float:
        """The smallest share of the area in a crop at an iteration of a block, counted from zero; here a constant."""
        return self.smallest_crop

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the settings without a value from image size and device.

        Raises:
            InputError: The teacher has no batch norm or cannot be saved with the set, or the images are whitened.
        """
        on_gpu = runtime.device.type != "cpu"
        self.counts(source)
        if self.start == "real":
            self.check_enough(source)
        if source.transform.whitening is not None:
            raise InputError(
                f"{self.name} clips pixels to their range, but these data are whitened; give data without whitening."
            )
        side = min(source.shape[1:])
        jitter = max(side // 8, self.jitter_from) if self.jitter is None else self.jitter
        if jitter < self.jitter_from:
            raise InputError(f"jitter is {jitter}; it must be at least jitter_from, {self.jitter_from}.")
        teacher = self.teacher.resolve(source.shape)
        self._check_teacher(teacher, source)
        crop = ("on" if side >= CROPPED_SIDE else "off") if self.crop == "auto" else self.crop
        mirror = ("on" if crop == "on" and source.flips else "off") if self.mirror == "auto" else self.mirror
        together = layout.at_once(source.shape, runtime) // min(self.block, len(source.classes)) if on_gpu else 1
        return replace(
            self,
            block_steps=self.block_steps or (4000 if on_gpu else 500),
            crop=crop,
            mirror=mirror,
            jitter=jitter,
            blocks_at_once=self.blocks_at_once or max(1, together),
            teacher=teacher,
            classes=len(source.classes),
        )

    def _check_teacher(self, teacher: Auxiliary, source: ImageSource) -> None:
        """Refuse an unsuitable teacher at the start, and not after hours of training."""
        if teacher.folder is None:
            check_norms(teacher.architecture.build(source.shape, len(source.classes), torch.Generator()))
        elif self.labels == "teacher" and not teacher.carries:
            raise InputError(
                f"labels is teacher, but {teacher.folder} cannot be saved with a set, because it is not one of attar's "
                "networks; give --labels hard, and store its answers by `attar label --teacher`."
            )

    @property
    def plan(self) -> list[list[Block]]:
        """The blocks in order, first the first image of every class; blocks that are recovered at once form a group."""
        assert self.classes and self.blocks_at_once is not None, "resolve the settings first"
        counts = torch.tensor(per_class(self.ipc, self.classes))
        first = counts.cumsum(0) - counts
        parts = [(first[counts > index] + index).split(self.block) for index in range(int(counts.max()))]
        blocks = [Block(number, rows) for number, rows in enumerate(rows for part in parts for rows in part)]
        groups: list[list[Block]] = []
        for _, alike in groupby(blocks, key=lambda block: len(block.rows)):
            several = list(alike)
            at_once = self.blocks_at_once
            groups += [several[place : place + at_once] for place in range(0, len(several), at_once)]
        return groups

    @property
    def total_steps(self) -> int:
        """Number of steps for all groups of blocks."""
        assert self.block_steps is not None, "resolve the settings first"
        return len(self.plan) * self.block_steps

    def work(self, source: ImageSource) -> float:
        """Multiply-adds of the whole run: in each step a pass forward and one back to the pixels."""
        assert self.block_steps is not None, "resolve the settings first"
        network = self.teacher.architecture.build(source.shape, len(source.classes), torch.Generator())
        images = sum(self.counts(source))
        return 2.0 * multiply_adds(network, source.shape) * images * self.block_steps

    def build(self, source: ImageSource, runtime: Runtime) -> Recovering:
        """Squeeze: find or train the teacher. No image is recovered yet."""
        network, carried = self._squeezed(source, runtime)
        plan, labels = self.plan, labels_of(self.ipc, len(source.classes))
        largest = max(sum(len(block.rows) for block in group) for group in plan)
        images = torch.zeros(largest, *source.shape, device=runtime.device).requires_grad_()
        real = self.start == "real"
        watch = Watch(network, first=self.first_weight, scale=self.bn_scale)
        return Recovering(
            images=images,
            optimizer=torch.optim.Adam([images], self.image_lr, betas=BETAS),
            finished=torch.zeros(len(labels), *source.shape, dtype=torch.uint8),
            source=source,
            starts=draw_rows(source.rows_of, self.ipc, runtime.generator("start")) if real else None,
            plan=plan,
            labels=labels,
            loss=runtime.compiled(self._loss(network, watch, runtime), training=True),
            watch=watch,
            ends=_pixel_range(source, runtime),
            teacher=carried,
        )

    def _squeezed(self, source: ImageSource, runtime: Runtime) -> tuple[nn.Module, Saved | None]:
        """A frozen copy of the teacher for the hooks, and the teacher itself if it can be saved with the set."""
        carried = None
        if self.teacher.foreign and self.labels == "hard":
            network = self.teacher.classifier(source, runtime)
        else:
            carried = self.teacher.carried(source, runtime)
            network = copy.deepcopy(carried.network)
        return layout.place(network, runtime).eval().requires_grad_(False), carried

    def _loss(self, network: nn.Module, watch: Watch, runtime: Runtime) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
        """The loss of the images of some blocks, each block seen through its view."""

        def loss(images: Tensor, rows: Tensor, columns: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            groups = len(rows)
            seen = layout.ordered(seen_through(images, rows, columns), runtime)
            logits = network(seen).float()
            sure = F.cross_entropy(logits, labels) * groups
            alike = watch.taken().sum()
            total = sure + self.statistics_weight * alike
            if self.variation_weight or self.length_weight:
                total = total + sum(self._prior(part) for part in seen.chunk(groups))
            return total, sure, alike

        return loss

    def _prior(self, images: Tensor) -> Float[Tensor, ""]:
        """The priors of the images of one block, which do not depend on the network."""
        return self.variation_weight * total_variation(images) + self.length_weight * mean_length(images)

    def step(self, state: Recovering, runtime: Runtime) -> Metrics:
        """Take one step of Adam on one view of every current block, and clip pixels to their range."""
        assert self.block_steps is not None, "resolve the settings first"
        turn, iteration = divmod(state.done, self.block_steps)
        blocks = state.plan[turn]
        if iteration == 0:
            self._begin(blocks, state, runtime)
        set_lr(state.optimizer, self.image_lr * half_cosine(iteration, self.block_steps))
        state.optimizer.zero_grad(set_to_none=True)
        terms = self._terms(blocks, iteration, state, runtime)
        if state.images.grad is None:
            state.images.grad = torch.zeros_like(state.images)
        # The pixels of other processes' blocks have gradient zero here, so the sum is the whole gradient.
        runtime.processes.sum_(state.images.grad)
        state.optimizer.step()
        with torch.no_grad():
            state.images.clamp_(*state.ends)
        state.done += 1
        if state.done % self.block_steps == 0:
            state.finished[torch.cat([block.rows for block in blocks])] = self._pixels(blocks, state)
        values = runtime.processes.sum_(terms) / len(blocks)
        return dict(zip(("loss", "cross_entropy", "statistics"), values, strict=True))

    def _begin(self, blocks: list[Block], state: Recovering, runtime: Runtime) -> None:
        """Set the images to their start, and clear the optimiser's state."""
        images = [self._start(block, state, runtime) for block in blocks]
        with torch.no_grad():
            state.images.zero_()
            state.images[: sum(map(len, images))] = torch.cat(images).to(runtime.device)
        state.optimizer.state.clear()

    def _start(self, block: Block, state: Recovering, runtime: Runtime) -> Tensor:
        if state.starts is not None:
            found: Tensor = state.source.inputs(state.starts[block.rows])
            return found
        return torch.randn(len(block.rows), *state.source.shape, generator=runtime.generator("start"))

    def _terms(self, blocks: list[Block], iteration: int, state: Recovering, runtime: Runtime) -> Float[Tensor, "3"]:
        """The loss and its parts, summed over this process's blocks. Its gradient is added to the images'."""
        mine = list(runtime.processes.share(len(blocks)))
        if not mine:
            return torch.zeros(3, device=runtime.device)
        views = [self._view(blocks[place].number, iteration, state, runtime) for place in mine]
        matrices = tuple(torch.stack(parts) for parts in zip(*views, strict=True))
        labels = torch.cat([state.labels[blocks[place].rows] for place in mine])
        (rows, columns), labels = sent((matrices, labels), runtime.device)
        size = len(blocks[0].rows)
        images = state.images[: size * len(blocks)]
        if len(mine) < len(blocks):
            images = images.unflatten(0, (len(blocks), size))[mine].flatten(0, 1)
        state.watch.groups = len(mine)
        terms = state.loss(images, rows, columns, labels)
        terms[0].backward()
        return torch.stack([term.detach() for term in terms])

    def _view(self, block: int, iteration: int, state: Recovering, runtime: Runtime) -> tuple[Tensor, Tensor]:
        """The view of a block at an iteration. It does not depend on the other blocks."""
        assert self.jitter is not None
        size = state.source.shape[1:]
        view = view_from(
            uniform(runtime.seed, f"view {block} {iteration}", UNIFORMS),
            size,
            smallest=self.smallest_at(iteration) if self.crop == "on" else 1.0,
            flips=self.mirror == "on",
            jitter=(self.jitter_from, self.jitter),
        )
        return view.matrices(size)

    def _pixels(self, blocks: list[Block], state: Recovering) -> Tensor:
        """The current blocks as 8-bit pixels."""
        images = state.images.detach()[: sum(len(block.rows) for block in blocks)]
        return eight_bits(state.source.transform.inverse(images), rounded=self.rounding == "nearest").cpu()

    def result(self, state: Recovering, runtime: Runtime) -> CondensedImages:
        """The images so far with their classes, and the teacher if it is saved with the set."""
        assert self.block_steps is not None
        images, source = state.finished.clone(), state.source
        turn, iteration = divmod(state.done, self.block_steps)
        if iteration:
            images[torch.cat([block.rows for block in state.plan[turn]])] = self._pixels(state.plan[turn], state)
        teacher = state.teacher if self.labels == "teacher" else None
        origin = Origin.of(source, self, runtime)
        return CondensedImages(
            images, state.labels, source.classes, source.transform, source.flips, origin, teacher=teacher
        )

    @classmethod
    def paper(cls, data: str, *, ipc: int) -> Self:
        """The settings of one cell of the paper's tables, with a ResNet-18 as teacher.

        Raises:
            InputError: The table does not have the cell.
        """
        return published(cls, data, ipc)


def _pixel_range(source: ImageSource, runtime: Runtime) -> tuple[Tensor, Tensor]:
    """Black and white as network input, one value for each channel."""
    ends = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(-1, source.shape[0], -1, -1)
    black, white = source.transform.forward(ends).to(runtime.device)
    return black, white
