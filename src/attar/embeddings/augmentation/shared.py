"""What all changes of a batch share: their types, the draw of numbers, and the change of some of the images."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.sending import sent

Images = Float[Tensor, "batch channel height width"]
PerImage = Float[Tensor, " batch"]
Rows = Int[Tensor, " row"]


def between(low: float, high: float, count: int, generator: torch.Generator) -> PerImage:
    """Uniform numbers from low to high, one for each image."""
    return low + (high - low) * torch.rand(count, generator=generator)


def some(share: float, count: int, generator: torch.Generator) -> Rows:
    """The rows of a batch that are drawn, each with the same probability."""
    return (torch.rand(count, generator=generator) < share).nonzero().flatten()


def only(rows: Rows, images: Images, change: Callable[[Images], Images]) -> Images:
    """Images of which these rows are changed."""
    if not len(rows):
        return images
    if len(rows) == len(images):
        return change(images)
    rows = sent(rows, images.device)
    return images.index_copy(0, rows, change(images[rows]))


def grouped(kind: Int[Tensor, " batch"], kinds: int) -> list[Rows]:
    """The rows of each kind. They are put in order on the CPU, before they go to a device together."""
    return list(kind.argsort(stable=True).split(kind.bincount(minlength=kinds).tolist()))


def per_image(values: PerImage, images: Images) -> Float[Tensor, "batch 1 1 1"]:
    """One number for each image, to be multiplied with it."""
    return values.to(images).view(-1, 1, 1, 1)
