"""What learned images are before the first step, and what becomes of them after the last."""

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
    """Images that are something before they are learned."""

    start: Start = "real"
    """What the result is before the first step: random real images (real), Gaussian noise (noise), or the result of the
    selection method of that name."""


@dataclass(frozen=True, kw_only=True)
class MatchedToReal(Started):
    """Images that are moved by what real images of their class say, a batch of them a step."""

    real_batch: Annotated[int, Range(1)] | None = None
    """Real samples per class and step. Default: 256 on a GPU, 64 on a CPU."""
    siamese: bool = True
    """Whether to augment the real and the synthetic images of a class in the same way."""
    momentum: Annotated[float, Range(0, 1)] = 0.5
    """Momentum of the pixel updates."""


def check_start(start: str, ipc: PerClass, source: ImageSource) -> None:
    """Refuse a start that these data cannot give.

    Raises:
        InputError: Fewer images than are to be taken, or more than one mean per class.
    """
    if start not in ("noise", "class-mean"):
        check_enough_images(ipc, source)
    if start in CORESETS:
        CORESETS[start](ipc=ipc)  # refuses what it cannot start


def start_images(start: str, ipc: PerClass, source: ImageSource, runtime: Runtime) -> Images:
    """Network input to start from, class after class: noise, real images drawn at random, or a selection of them."""
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
    """A condensed set of images as they have been learned so far."""
    origin = Origin.of(source, method, runtime)
    pixels = images.detach().cpu().clone()
    return CondensedImages(pixels, labels, source.classes, source.transform, source.flips, origin, lr=lr)
