"""RDED: the crops of real images that a trained network finds most typical of their class, several in one image.

It needs no optimisation and is a strong rival. Prefer it at 64 pixels and more, and if a method that learns pixels
would take hours. On large images most of its strength is in its labels, which come from a teacher. So compare it with
random real images that have the same labels; `attar evaluate` shows them beside it.
Sun, Shi, Yu and Lin, On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm,
CVPR 2024, arXiv:2312.03526. Settings are those of the released scripts.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.selection import Chosen, labels_of, shuffled
from attar.core.settings import Range, Role
from attar.images import layout
from attar.images.artefact import CondensedImages, Origin
from attar.images.condense.coresets import OBSERVED, Coreset, unit_pixels
from attar.images.data.pixels import eight_bits
from attar.images.sources import ImageSource
from attar.images.trained import BATCH_NORM, Auxiliary, Saved
from attar.images.views.crops import draw_boxes

Patches = Float[Tensor, "patch channel patch_height patch_width"]
Places = tuple[Int[Tensor, " _patch"], Float[Tensor, "_patch 4"]]
"""The training row of each patch, and its box in that image."""

LARGE_SIDE = 128
"""Image side from which four crops share an image. The scripts do so for ImageNet and its subsets."""


@dataclass
class Tiled(Chosen):
    """Images tiled from crops, with their labels and the network that labels them."""

    labels: Tensor
    teacher: Saved | None
    """The observer; None if it is a classifier of transformers."""
    places: list[Places]
    """The crops of each class."""


@dataclass(frozen=True, kw_only=True)
class RDED(Coreset):
    """Tile the crops of real images that an observer finds typical (Sun et al., CVPR 2024, arXiv:2312.03526).

    From each class `candidates` images are drawn. The observer scores `crops` random crops of each by cross-entropy
    with the true class. The best crop of each image is kept. The factor² · ipc best of these are scaled down and tiled,
    factor × factor to an image. The observer is also the teacher: with `labels="teacher"` it is saved with the set, and
    students learn its logits in the `rded` protocol.
    """

    factor: Annotated[int, Range(1)] | None = None
    """Number of crops along each side of an image. Default: 1 below 128 pixels and 2 from there on, as in the
    scripts."""
    candidates: Annotated[int, Range(1)] = 300
    """Number of images drawn from each class; a smaller class is taken whole. It is `mipc` in the scripts."""
    crops: Annotated[int, Range(1)] = 5
    """Number of random crops of each candidate image. It is `num_crop` in the scripts."""
    smallest_crop: Annotated[float, Range(0.001, 1)] = 0.08
    """Smallest share of an image's area in a crop. Crops are square."""
    labels: Literal["hard", "soft", "teacher"] = "soft"
    """Labels that the images get: class numbers (hard), the observer's probabilities averaged over an image's crops
    (soft), or class numbers together with the observer (teacher). soft is the paper's region-level labels, which its
    code lacks. teacher is the code's way: the observer is saved with the set for the `rded` protocol."""
    observer: Annotated[Auxiliary, Role()] = BATCH_NORM
    """The network that scores how typical a crop is. Its folder may be that of a student or an imported teacher, or
    transformers:NAME_OR_FOLDER of any classifier of these classes, unless it is saved with the set."""

    moved = OBSERVED
    name = "rded"

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the number of crops per image and the observer's depth."""
        factor = self.factor or (2 if min(source.shape[1:]) >= LARGE_SIDE else 1)
        if any(side % factor for side in source.shape[1:]):
            height, width = source.shape[1:]
            raise InputError(f"factor is {factor}; it must divide both sides of the images, {width}×{height}.")
        if self.labels == "teacher" and not self.observer.carries:
            raise InputError(
                f"labels is teacher, but {self.observer.folder} cannot be saved with a set. Give --labels soft, or an "
                "observer of attar's."
            )
        observer = self.observer.resolve(source.shape)
        settings = replace(super().resolve(source, runtime), factor=factor, observer=observer)
        self.check_enough(source)
        for name, rows, count in zip(source.classes, source.rows_of, self.counts(source), strict=True):
            wanted, looked_at = count * factor**2, min(self.candidates, len(rows))
            if wanted > looked_at:
                raise InputError(
                    f"class {name!r} needs {wanted} crops, {factor}×{factor} for each image, but it has only "
                    f"{looked_at} candidates with one crop each; lower --ipc or --factor, or raise --candidates."
                )
        return settings

    def build(self, source: ImageSource, runtime: Runtime) -> Tiled:
        """Score the crops of every class, choose the best, and tile them."""
        assert self.factor is not None, "resolve the settings first"
        carries = self.labels == "teacher" or not self.observer.foreign
        teacher = self.observer.carried(source, runtime) if carries else None
        observer = self.observer.classifier(source, runtime) if teacher is None else teacher.network
        images, soft, places = [], [], []
        for label, (rows, count) in enumerate(zip(source.rows_of, self.counts(source), strict=True)):
            looked = shuffled(rows, runtime.generator("choice"))[: self.candidates]
            patches, logits, boxes = self._best_crops(observer, source, looked, label, runtime)
            chosen = most_typical(logits, label, count * self.factor**2)
            places.append((looked[chosen], boxes[chosen]))
            images.append(tiled(patches[chosen], self.factor))
            # Tile k of image i is crop k · count + i, so the best crops are spread over the images.
            soft.append(logits[chosen].softmax(dim=1).view(self.factor**2, count, -1).mean(dim=0))
        pixels = eight_bits(torch.cat(images))
        labels = torch.cat(soft) if self.labels == "soft" else labels_of(self.ipc, len(source.classes))
        return Tiled(pixels, source, labels, teacher, places)

    def result(self, state: Any, runtime: Runtime) -> CondensedImages:
        """The images as 8-bit pixels, with their labels."""
        source = state.source
        teacher = state.teacher if self.labels == "teacher" else None
        origin = Origin.of(source, self, runtime)
        return CondensedImages(
            state.chosen, state.labels, source.classes, source.transform, source.flips, origin, teacher=teacher
        )

    def select(self, source: ImageSource, runtime: Runtime) -> Tensor:
        """The images alone."""
        return self.build(source, runtime).chosen

    def _best_crops(
        self, observer: nn.Module, source: ImageSource, rows: Int[Tensor, " row"], label: int, runtime: Runtime
    ) -> tuple[Patches, Float[Tensor, "patch class"], Float[Tensor, "patch 4"]]:
        """The most typical crop of each image, its logits from the observer, and its box.

        Crops have pixels in [0, 1] and the size of a tile.
        """
        assert self.factor is not None
        size = source.shape[1] // self.factor, source.shape[2] // self.factor
        best, answers, found = [], [], []
        for part in rows.split(max(1, layout.at_once(source.shape, runtime) // self.crops)):
            unit = unit_pixels(source, part)
            boxes = draw_boxes(
                len(part) * self.crops,
                runtime.generator("crops"),
                smallest=self.smallest_crop,
                aspect=1.0,
                oblong=source.shape[2] / source.shape[1],
            )
            patches = cut(unit.repeat_interleave(self.crops, dim=0), boxes, size)
            logits = observe(observer, patches, source, runtime)
            first = most_typical_of_each(logits, label, self.crops)
            best.append(patches[first])
            answers.append(logits[first])
            found.append(boxes[first])
        return torch.cat(best), torch.cat(answers), torch.cat(found)

    @classmethod
    def paper(cls, data: str, *, ipc: int) -> Self:
        """The settings of one cell of the paper's tables with a ConvNet or ResNet-18 as observer and student.

        Raises:
            InputError: The table does not have the cell.
        """
        return published(cls, data, ipc)


def cut(
    images: Float[Tensor, "patch channel height width"], boxes: Float[Tensor, "patch 4"], size: tuple[int, int]
) -> Patches:
    """Cut a box out of each image, rounded to whole pixels, and scale it to a size with antialiasing."""
    height, width = images.shape[2:]
    patches = []
    for image, (left, top, right, bottom) in zip(images, boxes.tolist(), strict=True):
        x, y = round(left * width), round(top * height)
        piece = image[:, y : max(round(bottom * height), y + 1), x : max(round(right * width), x + 1)]
        same = piece.shape[1:] == size
        patches.append(piece if same else _scaled(piece, size))
    return torch.stack(patches)


@torch.inference_mode()
def observe(
    observer: nn.Module, patches: Patches, source: ImageSource, runtime: Runtime
) -> Float[Tensor, "patch class"]:
    """The observer's logits of patches. Each patch is in the middle of a network input that is zero elsewhere."""
    images = source.transform.forward(patches)
    height, width = (full - part for full, part in zip(source.shape[1:], patches.shape[2:], strict=True))
    images = F.pad(images, (width // 2, width - width // 2, height // 2, height - height // 2))
    images = layout.ordered(images.to(runtime.device), runtime)
    return observer(images).float().cpu()


def most_typical_of_each(logits: Float[Tensor, "patch class"], label: int, crops: int) -> Int[Tensor, " image"]:
    """The row of the crop with the lowest cross-entropy for each image; the crops of an image are consecutive rows."""
    losses = realism_loss(logits, label).view(-1, crops)
    return losses.argmin(dim=1) + torch.arange(len(losses)) * crops


def most_typical(logits: Float[Tensor, "patch class"], label: int, count: int) -> Int[Tensor, " {count}"]:
    """The rows of the patches with the lowest cross-entropy, lowest first."""
    return realism_loss(logits, label).argsort(stable=True)[:count]


def realism_loss(logits: Float[Tensor, "patch class"], label: int) -> Float[Tensor, " patch"]:
    """Cross-entropy of each patch with its class: the negative of the paper's realism score."""
    return F.cross_entropy(logits, torch.full((len(logits),), label), reduction="none")


def tiled(patches: Patches, factor: int) -> Float[Tensor, "image channel height width"]:
    """Put factor² patches into each image: the first n patches in the first tile of n images, and so on."""
    grid = patches.unflatten(0, (factor, factor, -1))
    return torch.cat([torch.cat(list(row), dim=3) for row in grid], dim=2)


def _scaled(piece: Float[Tensor, "channel _height _width"], size: tuple[int, int]) -> Float[Tensor, "channel _h _w"]:
    scaled = F.interpolate(piece.unsqueeze(0), size=size, mode="bilinear", antialias=True)
    return scaled[0].clamp(0, 1)
