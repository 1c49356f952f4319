"""Real images chosen class by class, and two averages: the floor that every condensing method has to leave behind.

Random selection; herding (Welling, ICML 2009); greedy K-center (Sener and Savarese, ICLR 2018, arXiv:1708.00489);
k-means in pixels or embeddings (DC-BENCH, Cui et al., NeurIPS 2022, arXiv:2207.09639); the class mean, which the
published tables leave out and which nearly matches short runs of DM at one image per class.
Embeddings are those before the linear layer of a network trained on all images: the papers do not say which.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.runtime import Runtime
from attar.core.selection import (
    Features,
    PerClass,
    Selection,
    check_enough,
    draw_rows,
    herding,
    k_center,
    k_means,
    labels_of,
    nearest,
    per_class,
    shuffled,
)
from attar.core.settings import Range, Role, Settings
from attar.images import layout
from attar.images.artefact import CondensedImages, Origin
from attar.images.data.pixels import portions
from attar.images.sources import ImageSource
from attar.images.trained import TRAINED, Auxiliary

CLUSTERED = 2**25
"""Pixel values of a class that are clustered at most: 0.3 GB in double precision."""


@dataclass(frozen=True, kw_only=True)
class ImagesPerClass(Settings):
    """How many images there are to be."""

    ipc: PerClass = 10
    """Images per class: one number for all classes, or one number for each class in order."""

    kind = "images"

    def counts(self, source: ImageSource) -> tuple[int, ...]:
        """The number of images of each class.

        Raises:
            InputError: Numbers for more or fewer classes.
        """
        return per_class(self.ipc, len(source.classes), "ipc")

    def check_enough(self, source: ImageSource) -> None:
        """Refuse to choose more images than a class has."""
        check_enough_images(self.ipc, source)


@dataclass(frozen=True, kw_only=True)
class Coreset(ImagesPerClass, Selection):
    """What the selections share: images that are chosen or averaged, and become a condensed set as they are."""

    name = "coreset"

    @abstractmethod
    def select(self, source: ImageSource, runtime: Runtime) -> Tensor:
        """The images, `[image, channel, height, width]`, class after class: uint8 or float pixels, as the source's."""

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Nothing is left open but a network's depth, filled in where there is one."""
        self.counts(source)
        return self

    def result(self, state: Any, runtime: Runtime) -> CondensedImages:
        """The chosen images with their classes; averages, which are no 8-bit pixels, as network input."""
        images, source = state.chosen, state.source
        if images.dtype != torch.uint8:
            images = source.transform.forward(images)
        labels = labels_of(self.ipc, len(source.classes))
        origin = Origin.of(source, self, runtime)
        return CondensedImages(images, labels, source.classes, source.transform, source.flips, origin)


OBSERVED = MappingProxyType(
    {"observer": "observer.folder", "architecture": "observer.architecture", "protocol": "observer.protocol"}
)
"""Where an observer's settings were before they stood together."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingCoreset(Coreset):
    """A selection by the embeddings of a network trained on all images."""

    observer: Annotated[Auxiliary, Role()] = TRAINED
    """The network whose embeddings are compared."""

    moved = OBSERVED

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the network's depth."""
        return replace(super().resolve(source, runtime), observer=self.observer.resolve(source.shape))

    @abstractmethod
    def choose(self, features: Features, count: int, generator: torch.Generator) -> Int[Tensor, " {count}"]:
        """The places, among one class's embeddings, of the images to take."""

    def select(self, source: ImageSource, runtime: Runtime) -> Tensor:
        """Train or find the network, embed each class, choose."""
        self.check_enough(source)
        network = self.observer.found(source, runtime).network
        generator = runtime.generator("choice")
        chosen = [
            rows[self.choose(embed(network, source, rows, runtime), count, generator)]
            for rows, count in zip(source.rows_of, self.counts(source), strict=True)
        ]
        return source.train.pixels[torch.cat(chosen)]


@dataclass(frozen=True, kw_only=True)
class Random(Coreset):
    """Real images drawn at random, without replacement: the floor.

    Prefer it to nothing; anything here should beat it. Shown in every table of the field since Zhao et al., DC,
    ICLR 2021, arXiv:2006.05929.
    """

    name = "random"

    def select(self, source: ImageSource, runtime: Runtime) -> Tensor:
        """Draw."""
        self.check_enough(source)
        return source.train.pixels[draw_rows(source.rows_of, self.ipc, runtime.generator("choice"))]


@dataclass(frozen=True, kw_only=True)
class ClassMean(Coreset):
    """The average image of each class: one image, no learning.

    Prefer it at one image per class when a second is too long to wait; with more, use k-means, of which it is the
    case of one cluster. In no published table.
    """

    ipc: Annotated[int, Range(1, 1)] | tuple[Annotated[int, Range(1, 1)], ...] = 1
    """Images per class: one, because a class has one mean."""

    name = "class-mean"

    def select(self, source: ImageSource, runtime: Runtime) -> Tensor:
        """Average."""
        return torch.stack([_mean_pixels(source, rows) for rows in source.rows_of])


@dataclass(frozen=True, kw_only=True)
class Herding(EmbeddingCoreset):
    """Real images whose mean embedding follows the class's (Welling, Herding Dynamical Weights to Learn, ICML 2009).

    Prefer it when the condensed images must be real ones, at up to ten per class.
    """

    name = "herding"

    def choose(self, features: Features, count: int, generator: torch.Generator) -> Int[Tensor, " {count}"]:
        """Follow the mean."""
        return herding(features, count)


@dataclass(frozen=True, kw_only=True)
class KCenter(EmbeddingCoreset):
    """Real images that cover a class's embeddings: each next one is the farthest from those taken.

    Sener and Savarese, Active Learning for CNNs: A Core-Set Approach, ICLR 2018, arXiv:1708.00489. It picks
    outliers, so from about ten per class on, random selection is often better; here because the tables have it.
    """

    name = "k-center"

    def choose(self, features: Features, count: int, generator: torch.Generator) -> Int[Tensor, " {count}"]:
        """Cover."""
        return k_center(features, count)


@dataclass(frozen=True, kw_only=True)
class KMeans(EmbeddingCoreset):
    """Cluster centres of each class: averages of pixels, or the real images nearest to centres of embeddings.

    The strongest simple rival of DC-BENCH (Cui et al., NeurIPS 2022, arXiv:2207.09639) is `space="embedding"`.
    In pixels, a class of more than 33 million of them is clustered on as many images, drawn at random, as have so many
    (10,900 at 32 pixels, 220 at 224); embeddings are always those of all images.
    """

    space: Literal["embedding", "pixel"] = "embedding"
    """What is clustered: embeddings or pixels. Centres of pixels are the images themselves. Centres of embeddings are
    replaced by the nearest real images."""

    name = "k-means"

    def select(self, source: ImageSource, runtime: Runtime) -> Tensor:
        """Cluster."""
        if self.space == "embedding":
            return super().select(source, runtime)
        self.check_enough(source)
        generator = runtime.generator("choice")
        centres = [
            k_means(unit_pixels(source, _fitting(source, rows, generator)).flatten(1), count, generator)
            for rows, count in zip(source.rows_of, self.counts(source), strict=True)
        ]
        return torch.cat(centres).view(-1, *source.shape)

    def choose(self, features: Features, count: int, generator: torch.Generator) -> Int[Tensor, " {count}"]:
        """The real images nearest to the centres, each taken once."""
        return nearest(features, k_means(features, count, generator))


@torch.inference_mode()
def embed(network: Any, source: ImageSource, rows: Int[Tensor, " image"], runtime: Runtime) -> Features:
    """Embeddings of training images."""
    parts = rows.split(min(layout.at_once(source.shape, runtime), 4096))
    return torch.cat([network.embed(source.inputs(part, runtime.device)).float().cpu() for part in parts])


def check_enough_images(ipc: PerClass, source: ImageSource) -> None:
    """Refuse to choose more images than a class has."""
    check_enough(ipc, source, setting="ipc", samples="images")


def unit_pixels(source: ImageSource, rows: Tensor) -> Float[Tensor, "image channel height width"]:
    """Pixels in [0, 1]."""
    pixels = source.train.pixels[rows]
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


CORESETS: dict[str, type[Coreset]] = {c.name: c for c in (Random, ClassMean, Herding, KCenter, KMeans)}


def _mean_pixels(source: ImageSource, rows: Tensor) -> Float[Tensor, "channel height width"]:
    """The average of any number of images, a portion at a time."""
    mean, seen = torch.zeros(source.shape), 0
    for part in portions(rows, source.shape):
        seen += len(part)
        mean += (unit_pixels(source, part).mean(dim=0) - mean) * (len(part) / seen)
    return mean


def _fitting(source: ImageSource, rows: Tensor, generator: torch.Generator) -> Tensor:
    """These rows, or as many of them, drawn at random, as can be clustered in memory."""
    most = CLUSTERED // math.prod(source.shape)
    return rows if len(rows) <= most else shuffled(rows, generator)[:most]
