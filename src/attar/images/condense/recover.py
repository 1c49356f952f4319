"""Shared parts of methods that recover images from a trained network: batch-norm statistics, and crops as matrices.

Crop, flip and roll act on rows and on columns separately. So the three together are one matrix on the left and one on
the right. These matrices have the same shape for every crop, which a compiled step needs. Their gradient is a matrix
product, which is deterministic on a GPU too.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.images.networks.architecture import norms_of
from attar.images.views.crops import TRIES, boxes_from

Images = Float[Tensor, "image channel height width"]
Scale = Literal["sum", "channel", "layer"]

UNIFORMS = 4 * TRIES + 3
"""Number of uniform random numbers that every view takes: for a box, a flip, and a roll along two axes."""


# Batch-norm statistics.


class Moments(torch.autograd.Function):
    """Mean and mean square of every channel about a given centre, for each group of images.

    It takes one pass forward and one back; autograd would take five. The gradient is linear in the input.
    """

    @staticmethod
    def forward(ctx: Any, seen: Tensor, centre: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        """Mean and mean square, `[group, channel]` each; `seen` is `[image, channel, ...]`."""
        ctx.save_for_backward(seen, centre)
        ctx.groups = groups
        centred = (seen.float() - _spread(centre, seen)).unflatten(0, (groups, -1))
        places = (1, *range(3, centred.ndim))
        mean = centred.mean(dim=places)
        return mean, centred.square_().mean(dim=places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient in the input, which is linear in it."""
        seen, centre = ctx.saved_tensors
        of_mean, of_square = gradients
        count = seen.numel() // (seen.shape[1] * ctx.groups)
        slope = 2 * of_square / count
        level = of_mean / count - slope * centre
        slope, level = (_spread(part.unsqueeze(1), seen) for part in (slope, level))
        each = seen.float().unflatten(0, (ctx.groups, -1))
        return torch.addcmul(level, each, slope).flatten(0, 1).to(seen.dtype), None, None


def statistics_gaps(
    seen: Float[Tensor, "image channel *place"],
    mean: Float[Tensor, " channel"],
    variance: Float[Tensor, " channel"],
    *,
    groups: int = 1,
) -> tuple[Float[Tensor, " group"], Float[Tensor, " group"]]:
    """‖v - RV‖₂ and ‖μ - RM‖₂ over channels for each group of images: variance and mean against the running ones.

    v is the biased variance. It is computed as E[(x - RM)²] - (μ - RM)², which loses no precision if μ is near RM.
    """
    shift, square = Moments.apply(seen, mean, groups)
    return (square - shift.square() - variance).norm(dim=1), shift.norm(dim=1)


class Watch:
    """Sums the distances between the batch statistics and the running statistics of a network's batch-norm layers."""

    def __init__(self, network: nn.Module, *, first: float = 1.0, scale: Scale = "sum") -> None:
        """Put a hook before every layer.

        Args:
            network: In evaluation mode.
            first: Weight k of the first layer; the other layers have weight 1.
            scale: The norms are summed (sum, as in the papers), or divided by √channels (channel) or by the norms of
                the running statistics (layer) and averaged over layers.

        Raises:
            InputError: The network has no batch norm.
        """
        check_norms(network)
        layers = norms_of(network)
        self.groups = 1
        self.gaps: list[Tensor] = []
        total = 1.0 if scale == "sum" else first + len(layers) - 1
        for number, layer in enumerate(layers):
            weight = (first if number == 0 else 1.0) / total
            layer.register_forward_pre_hook(self._hook(layer, weight, *_yardsticks(layer, scale)))

    def _hook(self, layer: Any, weight: float, of_variance: float, of_mean: float) -> Any:
        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            variance, mean = statistics_gaps(inputs[0], layer.running_mean, layer.running_var, groups=self.groups)
            self.gaps.append(weight * (variance / of_variance + mean / of_mean))

        return look

    def taken(self) -> Float[Tensor, " group"]:
        """Σ_l k_l (‖v_l - RV_l‖ + ‖μ_l - RM_l‖) for each group in the last pass; the stored terms are cleared."""
        gaps = sum(self.gaps[1:], self.gaps[0])
        self.gaps.clear()
        return gaps


def check_norms(network: nn.Module) -> None:
    """Refuse a teacher without batch norm.

    Raises:
        InputError: The teacher has no batch norm.
    """
    if not norms_of(network):
        raise InputError(
            "the teacher has no batch norm, but images are recovered from batch-norm statistics; choose a teacher with "
            "batch norm (--teacher.norm batch), or a method that does not need it, such as dm."
        )


def _yardsticks(layer: Any, scale: Scale) -> tuple[float, float]:
    """The divisors of the norms of a layer's variance and mean."""
    if scale == "sum":
        return 1.0, 1.0
    if scale == "channel":
        return len(layer.running_var) ** 0.5, len(layer.running_var) ** 0.5
    return float(layer.running_var.norm()), float(layer.running_var.sum().sqrt())


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """`[..., channel]` with dimensions of size one for the places of `[image, channel, place, ...]`."""
    return values.view(*values.shape, *[1] * (like.ndim - 2))


# Views.


@dataclass(frozen=True)
class View:
    """A crop that is scaled to the image's size, then mirrored, then rolled. All numbers are in pixels."""

    top: int
    bottom: int
    left: int
    right: int
    mirrored: bool = False
    down: int = 0
    aside: int = 0

    def matrices(self, size: tuple[int, int]) -> tuple[Float[Tensor, "height height"], Float[Tensor, "width width"]]:
        """Matrices R and C; the view of an image x is R x Cᵀ."""
        rows = resampling(size[0], self.top, self.bottom)
        columns = resampling(size[1], self.left, self.right)
        columns = columns.flip(0) if self.mirrored else columns
        return rows.roll(self.down, dims=0), columns.roll(self.aside, dims=0)


def view_from(
    uniform: Float[Tensor, " uniforms"],
    size: tuple[int, int],
    *,
    smallest: float,
    flips: bool = True,
    jitter: tuple[int, int] = (0, 0),
) -> View:
    """The view that uniform random numbers define. Every view takes `UNIFORMS` of them.

    Args:
        uniform: `UNIFORMS` numbers in [0, 1).
        size: Height and width.
        smallest: Smallest share of the area in the crop; 1 is the whole image.
        flips: Whether a view is mirrored with probability one half.
        jitter: Smallest and largest shift of the roll, in pixels, both included.
    """
    height, width = size
    box = [0.0, 0.0, 1.0, 1.0]
    if smallest < 1:
        boxes = boxes_from(uniform[: 4 * TRIES].view(4, 1, TRIES), smallest=smallest, oblong=width / height)
        box = boxes[0].tolist()
    mirrored, *shifts = uniform[4 * TRIES :].tolist()
    low, high = jitter
    down, aside = (low + int(shift * (high - low + 1)) for shift in shifts)
    (left, right), (top, bottom) = _to_pixels(box[0], box[2], width), _to_pixels(box[1], box[3], height)
    return View(top, bottom, left, right, mirrored=flips and mirrored < 0.5, down=down, aside=aside)


def resampling(size: int, start: int, stop: int) -> Float[Tensor, "{size} {size}"]:
    """The matrix that scales places `start` to `stop` of a line linearly to the whole length.

    It equals `F.interpolate` of the cut-out piece with `align_corners=False`: places outside have no weight.
    """
    places = start + (torch.arange(size) + 0.5) * ((stop - start) / size) - 0.5
    places = places.clamp(start, stop - 1)
    low = places.floor()
    share = (places - low).unsqueeze(1)
    low = low.long().unsqueeze(1)
    matrix = torch.zeros(size, size).scatter_add_(1, low, 1 - share)
    return matrix.scatter_add_(1, (low + 1).clamp_max(stop - 1), share)


def seen_through(images: Images, rows: Float[Tensor, "group h h"], columns: Float[Tensor, "group w w"]) -> Images:
    """The images of every group seen through the view of the group."""
    grouped = images.unflatten(0, (len(rows), -1))
    cropped = rows[:, None, None] @ grouped @ columns[:, None, None].mT
    return cropped.flatten(0, 1)


def _to_pixels(start: float, stop: float, size: int) -> tuple[int, int]:
    first = min(round(start * size), size - 1)
    return first, max(round(stop * size), first + 1)


# Priors.


def total_variation(images: Images) -> Float[Tensor, ""]:
    """The Frobenius norms of differences of neighbours, summed over four directions: across, down, both diagonals."""
    pairs = (
        (images[..., :, 1:], images[..., :, :-1]),
        (images[..., 1:, :], images[..., :-1, :]),
        (images[..., 1:, 1:], images[..., :-1, :-1]),
        (images[..., 1:, :-1], images[..., :-1, 1:]),
    )
    return torch.stack([(one - other).norm() for one, other in pairs]).sum()


def mean_length(images: Images) -> Float[Tensor, ""]:
    """The mean over images of ‖x‖₂."""
    return images.flatten(1).norm(dim=1).mean()
