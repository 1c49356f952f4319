"""Initial images of methods that learn images, and their results as condensed sets."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.runtime import Runtime
from attar.core.selection import PerClass, draw_rows, labels_of
from attar.core.settings import Range
from attar.images.artefact import CondensedImages, Origin
from attar.images.condense.coresets import CORESETS, ImagesPerClass, check_enough_images
from attar.images.sources import ImageSource

Start = Literal["real", "noise", "class-mean", "herding", "k-center", "k-means"]
Images = Float[Tensor, "image channel height width"]


@dataclass(frozen=True, kw_only=True)
class Started(ImagesPerClass):
    """Settings of methods that learn images from a start."""

    start: Start = "real"
    """What the result is before the first step: random real images (real), Gaussian noise (noise), or the result of the
    selection method of that name."""


@dataclass(frozen=True, kw_only=True)
class MatchedToReal(Started):
    """Settings of methods that match synthetic images to a batch of real images of their class in every step."""

    real_batch: Annotated[int, Range(1)] | None = None
    """Real samples per class and step. Default: 256 on a GPU, 64 on a CPU."""
    siamese: bool = True
    """Whether to augment the real and the synthetic images of a class in the same way."""
    momentum: Annotated[float, Range(0, 1)] = 0.5
    """Momentum of the pixel updates."""


def check_start(start: str, ipc: PerClass, source: ImageSource) -> None:
    """Refuse a start that is impossible with these data.

    Raises:
        InputError: A class has too few images, or more than one mean per class is asked for.
    """
    if start not in ("noise", "class-mean"):
        check_enough_images(ipc, source)
    if start in CORESETS:
        CORESETS[start](ipc=ipc)  # its settings refuse an ipc that they cannot give


def start_images(start: str, ipc: PerClass, source: ImageSource, runtime: Runtime) -> Images:
    """Initial images as network input, ordered by class: noise, random real images, or the result of a selection."""
    if start == "noise":
        shape = (len(labels_of(ipc, len(source.classes))), *source.shape)
        return torch.randn(shape, generator=runtime.generator("start"))
    if start == "real":
        return source.inputs(draw_rows(source.rows_of, ipc, runtime.generator("start")))
    pixels = CORESETS[start](ipc=ipc).resolve(source, runtime).select(source, runtime)
    return source.transform.forward(pixels)


def learned(
    images: Tensor, labels: Tensor, source: ImageSource, method: Any, runtime: Runtime, *, lr: float | None = None
) -> CondensedImages:
    """The condensed set of the images as they are now."""
    origin = Origin.of(source, method, runtime)
    pixels = images.detach().cpu().clone()
    return CondensedImages(pixels, labels, source.classes, source.transform, source.flips, origin, lr=lr)
