"""Real images chosen class by class, and two averages: the baselines that every condensing method has to beat.

They are random selection, herding (Welling, ICML 2009), greedy K-center (Sener and Savarese, ICLR 2018,
arXiv:1708.00489), k-means in pixels or embeddings (DC-BENCH, Cui et al., NeurIPS 2022, arXiv:2207.09639), and the class
mean. The published tables do not have the class mean, which is nearly as good as short runs of DM at one image per
class. Embeddings are the input of the last linear layer of a network trained on all images; the papers do not say
which embeddings they use.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

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
from attar.images.networks.embedding import embedder
from attar.images.sources import ImageSource
from attar.images.trained import TRAINED, Auxiliary

CLUSTERED = 2**25
"""Largest number of pixel values of a class that are clustered: 0.3 GB in double precision."""


@dataclass(frozen=True, kw_only=True)
class ImagesPerClass(Settings):
    """The number of images in the result."""

    ipc: PerClass = 10
    """Images per class: one number for all classes, or one number for each class in order."""

    kind = "images"

    def counts(self, source: ImageSource) -> tuple[int, ...]:
        """The number of images of each class.

        Raises:
            InputError: There are numbers for more or fewer classes than the data have.
        """
        return per_class(self.ipc, len(source.classes), "ipc")

    def check_enough(self, source: ImageSource) -> None:
        """Refuse to choose more images than a class has."""
        check_enough_images(self.ipc, source)


@dataclass(frozen=True, kw_only=True)
class Coreset(ImagesPerClass, Selection):
    """Shared parts of the selections, whose chosen or averaged images form the condensed set unchanged."""

    name = "coreset"

    @abstractmethod
    def select(self, source: ImageSource, runtime: Runtime) -> Tensor:
        """The images, `[image, channel, height, width]`, ordered by class: uint8 or float pixels, like the source's."""

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Check the numbers of images. Selections with a network fill in its depth."""
        self.counts(source)
        return self

    def result(self, state: Any, runtime: Runtime) -> CondensedImages:
        """The chosen images with their classes. Averages are not 8-bit pixels and are kept as network input."""
        images, source = state.chosen, state.source
        if images.dtype != torch.uint8:
            images = source.transform.forward(images)
        labels = labels_of(self.ipc, len(source.classes))
        origin = Origin.of(source, self, runtime)
        return CondensedImages(images, labels, source.classes, source.transform, source.flips, origin)


OBSERVED = MappingProxyType(
    {"observer": "observer.folder", "architecture": "observer.architecture", "protocol": "observer.protocol"}
)
"""Earlier names of an observer's settings."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingCoreset(Coreset):
    """A selection by the embeddings of a network trained on all images."""

    observer: Annotated[Auxiliary, Role()] = TRAINED
    """The network whose embeddings are compared. Its folder may be transformers:NAME_OR_FOLDER of any classifier of
    these classes, or that of a student or an imported teacher."""

    moved = OBSERVED

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the network's depth."""
        return replace(super().resolve(source, runtime), observer=self.observer.resolve(source.shape))

    @abstractmethod
    def choose(self, features: Features, count: int, generator: torch.Generator) -> Int[Tensor, " {count}"]:
        """The rows of one class's embeddings whose images are chosen."""

    def select(self, source: ImageSource, runtime: Runtime) -> Tensor:
        """Find or train the network, embed each class, and choose."""
        self.check_enough(source)
        network = self.observer.classifier(source, runtime)
        generator = runtime.generator("choice")
        chosen = [
            rows[self.choose(embed(network, source, rows, runtime), count, generator)]
            for rows, count in zip(source.rows_of, self.counts(source), strict=True)
        ]
        return source.train.pixels[torch.cat(chosen)]


@dataclass(frozen=True, kw_only=True)
class Random(Coreset):
    """Real images drawn at random without replacement: the baseline.

    Every other method should beat it. It is in every table of the field since Zhao et al., DC, ICLR 2021,
    arXiv:2006.05929.
    """

    name = "random"

    def select(self, source: ImageSource, runtime: Runtime) -> Tensor:
        """Draw the images."""
        self.check_enough(source)
        return source.train.pixels[draw_rows(source.rows_of, self.ipc, runtime.generator("choice"))]


@dataclass(frozen=True, kw_only=True)
class ClassMean(Coreset):
    """The average image of each class, without learning.

    Prefer it at one image per class if one second is too long to wait. For more images use k-means; the class
    mean is k-means with one cluster. It is in no published table.
    """

    ipc: Annotated[int, Range(1, 1)] | tuple[Annotated[int, Range(1, 1)], ...] = 1
    """Images per class: one, because a class has one mean."""

    name = "class-mean"

    def select(self, source: ImageSource, runtime: Runtime) -> Tensor:
        """Average the images of each class."""
        return torch.stack([_mean_pixels(source, rows) for rows in source.rows_of])


@dataclass(frozen=True, kw_only=True)
class Herding(EmbeddingCoreset):
    """Real images with a mean embedding close to the class's (Welling, Herding Dynamical Weights to Learn, ICML 2009).

    Prefer it for up to ten images per class if the condensed images must be real.
    """

    name = "herding"

    def choose(self, features: Features, count: int, generator: torch.Generator) -> Int[Tensor, " {count}"]:
        """Choose images whose mean is close to the class mean, one after another."""
        return herding(features, count)


@dataclass(frozen=True, kw_only=True)
class KCenter(EmbeddingCoreset):
    """Real images that cover a class's embeddings: each next image is the farthest from those chosen before.

    Sener and Savarese, Active Learning for CNNs: A Core-Set Approach, ICLR 2018, arXiv:1708.00489. It chooses
    outliers, so random selection is often better from about ten images per class on. It is here because the tables
    have it.
    """

    name = "k-center"

    def choose(self, features: Features, count: int, generator: torch.Generator) -> Int[Tensor, " {count}"]:
        """Choose the farthest image, one after another."""
        return k_center(features, count)


@dataclass(frozen=True, kw_only=True)
class KMeans(EmbeddingCoreset):
    """Cluster centres of each class: averages of pixels, or the real images nearest to centres of embeddings.

    `space="embedding"` is the strongest simple baseline of DC-BENCH (Cui et al., NeurIPS 2022, arXiv:2207.09639).
    With pixels, a class of more than 33 million pixel values is clustered on a random subset of its images that has at
    most so many (10,900 images at 32 pixels, 220 at 224). With embeddings all images are clustered.
    """

    space: Literal["embedding", "pixel"] = "embedding"
    """What is clustered: embeddings or pixels. Centres of pixels are the images themselves. Centres of embeddings are
    replaced by the nearest real images."""

    name = "k-means"

    def select(self, source: ImageSource, runtime: Runtime) -> Tensor:
        """Cluster the images of each class."""
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
def embed(network: nn.Module, source: ImageSource, rows: Int[Tensor, " image"], runtime: Runtime) -> Features:
    """Embeddings of training images."""
    parts = rows.split(min(layout.at_once(source.shape, runtime), 4096))
    embedding = embedder(network)
    return torch.cat([embedding(source.inputs(part, runtime.device)).float().cpu() for part in parts])


def check_enough_images(ipc: PerClass, source: ImageSource) -> None:
    """Refuse to choose more images than a class has."""
    check_enough(ipc, source, setting="ipc", samples="images")


def unit_pixels(source: ImageSource, rows: Tensor) -> Float[Tensor, "image channel height width"]:
    """Pixels in [0, 1]."""
    pixels = source.train.pixels[rows]
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


CORESETS: dict[str, type[Coreset]] = {c.name: c for c in (Random, ClassMean, Herding, KCenter, KMeans)}


def _mean_pixels(source: ImageSource, rows: Tensor) -> Float[Tensor, "channel height width"]:
    """The average of any number of images, computed on a portion at a time."""
    mean, seen = torch.zeros(source.shape), 0
    for part in portions(rows, source.shape):
        seen += len(part)
        mean += (unit_pixels(source, part).mean(dim=0) - mean) * (len(part) / seen)
    return mean


def _fitting(source: ImageSource, rows: Tensor, generator: torch.Generator) -> Tensor:
    """These rows, or a random subset of them that can be clustered in memory."""
    most = CLUSTERED // math.prod(source.shape)
    return rows if len(rows) <= most else shuffled(rows, generator)[:most]
