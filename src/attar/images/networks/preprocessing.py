"""What the image processor of a model of `transformers` does, as arithmetic through which gradients pass.

Size and crop are read from the processor. Its colours are measured: they are what it makes of black and of each full
primary colour. Then its result for a picture of noise is compared with ours, and a processor that does something else
is refused.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError, reason_of
from attar.core.precision import widest
from attar.images.networks.blocks import Shape

Levels = Float[Tensor, "batch _channel _height _width"]
"""Images of any size, in levels from 0 to 255."""
Side = tuple[int, int]
"""Height and width."""
Kernel = Callable[[Tensor], Tensor]
LEVELS = 255
NEAREST, BILINEAR = 0, 2
STEPS = 2**22
"""Steps of one in the weights of Pillow's 8-bit arithmetic."""
NEAR = 0.01
"""Distance in levels within which a value counts as a whole level that was rounded in single precision."""
TOLERANCE = 1.01
"""Largest difference from the processor, in levels of 255, if the picture is scaled: other libraries than Pillow scale
by other arithmetic. If it is not scaled: `NEAR`."""


@dataclass(frozen=True)
class Preprocessing:
    """The work of a processor on images of one shape, in plain values."""

    given: Side
    """Height and width of the images."""
    resized: Side | None
    """Height and width to which they are scaled first, if they are."""
    cropped: Side | None
    """Height and width of the crop in the middle, if there is one. A larger crop is filled with zeros."""
    resample: int
    """The number that Pillow has for the filter."""
    rows_first: bool
    """Whether columns of pixels are scaled before rows. Newer versions of Pillow do so if that is less work."""
    channels: tuple[int, ...]
    """The channel of the image that each channel of the result takes."""
    scale: tuple[float, ...]
    """Factor of each channel's levels, which are 0 to 255."""
    offset: tuple[float, ...]
    """What is added then."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """The inverse."""
        known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in facts.items()}
        return cls(**known)


class Preprocess(nn.Module):
    """A processor's work on levels from 0 to 255.

    Pictures are scaled in two passes by Pillow's 8-bit arithmetic: values are rounded to whole levels and cut off at 0
    and 255 after each. Gradients pass the rounding. A picture that leaves that range is cut off at its own extremes.
    """

    rows: Tensor
    columns: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(self, plain: Preprocessing) -> None:
        super().__init__()
        self.plain = plain
        height, width = plain.resized or plain.given
        buffers = {
            "rows": in_steps(resampling(plain.given[0], height, plain.resample)),
            "columns": in_steps(resampling(plain.given[1], width, plain.resample)),
            "scale": torch.tensor(plain.scale)[:, None, None],
            "offset": torch.tensor(plain.offset)[:, None, None],
        }
        for name, values in buffers.items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, levels: Levels) -> Levels:
        """The input of the model."""
        if self.plain.resized is not None:
            levels = self._scaled(levels)
        if self.plain.cropped is not None:
            levels = cropped(levels, self.plain.cropped)
        return levels[:, list(self.plain.channels)] * self.scale + self.offset

    def _scaled(self, levels: Levels) -> Levels:
        # Sums of whole levels in whole steps are exact in double precision; Apple's GPUs have only single.
        exact = widest(levels.device)
        whole = levels.detach().round()
        levels = torch.where((levels.detach() - whole).abs() < NEAR, levels + (whole - levels).detach(), levels)
        low = levels.detach().amin(dim=(1, 2, 3), keepdim=True).clamp(max=0)
        high = levels.detach().amax(dim=(1, 2, 3), keepdim=True).clamp(min=LEVELS)
        found, rows, columns = levels.to(exact), self.rows.to(exact), self.columns.to(exact)
        for down in (self.plain.rows_first, not self.plain.rows_first):
            weights = rows if down else columns
            if weights.shape[0] != weights.shape[1]:
                sums = (weights @ found if down else found @ weights.T) / STEPS
                found = sums + ((sums + 0.5).floor() - sums).detach()
                found = torch.minimum(torch.maximum(found, low), high)
        return found.float()


def cropped(images: Levels, size: Side) -> Levels:
    """The middle of images. If it is larger than they are, zeros are added around them."""
    for dim, wanted in zip((2, 3), size, strict=True):
        have = images.shape[dim]
        if wanted <= have:
            images = images.narrow(dim, (have - wanted) // 2, wanted)
        else:
            before = math.ceil((wanted - have) / 2)
            sides = (before, wanted - have - before)
            images = nn.functional.pad(images, (*sides, 0, 0) if dim == 3 else (0, 0, *sides))
    return images


def in_steps(weights: Float[Tensor, "wanted given"]) -> Float[Tensor, "wanted given"]:
    """Weights in whole steps, with halves rounded away from zero."""
    return ((weights.abs() * STEPS + 0.5).floor() * weights.sign()).float()


def resampling(given: int, wanted: int, resample: int) -> Float[Tensor, "wanted given"]:
    """The weights by which Pillow scales a side: each row makes one new pixel from the old ones.

    Raises:
        InputError: Pillow has no such filter.
    """
    unit, factor = torch.eye(given, dtype=torch.float64), given / wanted
    if given == wanted:
        return unit
    if resample == NEAREST:  # by sums, whose rounding decides between two neighbours
        return unit[[int(place) for place in accumulate([factor] * (wanted - 1), initial=factor * 0.5)]]
    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * factor
    places = torch.arange(given, dtype=torch.float64)
    if resample not in KERNELS:
        raise InputError(f"resample is {resample}, but the filters are {NEAREST} to {max(KERNELS)}.")
    kernel, support = KERNELS[resample]
    wide = max(factor, 1.0)
    first = (centres - support * wide + 0.5).trunc().clamp(min=0)[:, None]
    end = (centres + support * wide + 0.5).trunc().clamp(max=given)[:, None]
    weights = kernel((places - centres[:, None] + 0.5) / wide) * ((places >= first) & (places < end))
    return weights / weights.sum(dim=1, keepdim=True)


def _box(x: Tensor) -> Tensor:
    return ((x > -0.5) & (x <= 0.5)).double()


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _hamming(x: Tensor) -> Tensor:
    return torch.sinc(x) * (0.54 + 0.46 * (math.pi * x).cos()) * (x.abs() < 1)


def _cubic(x: Tensor, a: float = -0.5) -> Tensor:
    x = x.abs()
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _lanczos(x: Tensor) -> Tensor:
    return torch.sinc(x) * torch.sinc(x / 3) * (x.abs() < 3)


KERNELS: dict[int, tuple[Kernel, float]] = {
    1: (_lanczos, 3.0),
    BILINEAR: (_triangle, 1.0),
    3: (_cubic, 2.0),
    4: (_box, 0.5),
    5: (_hamming, 1.0),
}
"""Pillow's filters by its numbers, each with the distance at which it ends."""


def preprocessing_of(processor: Any, shape: Shape, name: str) -> Preprocessing:
    """What a processor does with images of this shape.

    Args:
        processor: An image processor of `transformers`, of any backend.
        shape: The shape of the images as the processor is given them.
        name: The model's name, for messages.

    Raises:
        InputError: It does something else than scale, crop, reorder channels, rescale and normalise.
    """
    given = shape[1:]
    try:
        resized, crop = _geometry(processor, given)
        colours = _colours(processor, shape)
        ways = [Preprocessing(given, resized, crop, _filter(processor), first, *colours) for first in (False, True)]
        found = min(ways, key=lambda way: _difference(processor, way, shape))
        if not _difference(processor, found, shape) <= (TOLERANCE if resized else NEAR):
            raise ValueError("it does more than scale, crop, rescale and normalise, which attar cannot repeat")
    except InputError:
        raise
    except Exception as error:  # a processor is foreign code: whatever it trips over, it does not take these images
        reason = reason_of(error)
        raise InputError(f"{_told(processor, name)} does not take images of {_size(shape)} ({reason}).") from None
    return found


def _difference(processor: Any, found: Preprocessing, shape: Shape) -> float:
    """The largest difference from the processor for a picture of noise, in levels."""
    noise = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wanted, ours = _processed(processor, noise), Preprocess(found)(noise[None].float())[0]
    if wanted.shape != ours.shape:
        raise ValueError(f"its result is {_size(wanted.shape)}, and attar's repetition of it {_size(ours.shape)}")
    scale = torch.tensor(found.scale).abs().clamp(min=1e-12)[:, None, None]
    return float(((wanted - ours).abs() / scale).max())


def _colours(processor: Any, shape: Shape) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Channel, scale and offset of each channel of the result, measured in the middle of single-coloured pictures."""
    flat = torch.zeros(shape[0] + 1, *shape, dtype=torch.uint8)
    for channel in range(shape[0]):
        flat[channel + 1, channel] = LEVELS
    made = torch.stack([_processed(processor, picture) for picture in flat]).double()
    black, *full = made[:, :, made.shape[2] // 2, made.shape[3] // 2]
    slopes = (torch.stack(full) - black) / LEVELS
    source = slopes.abs().argmax(dim=0)
    scale = slopes.gather(0, source[None])[0]
    return tuple(source.tolist()), tuple(scale.tolist()), tuple(black.tolist())


def _processed(processor: Any, picture: Tensor) -> Tensor:
    given = {"return_tensors": "pt", "input_data_format": "channels_first"}
    (found,) = processor(picture.numpy(), **given)["pixel_values"]
    return torch.as_tensor(found).float()


def _geometry(processor: Any, given: Side) -> tuple[Side | None, Side | None]:
    """The size to which a processor scales images of a given size, and the size of its crop."""
    resized, crop = None, None
    if getattr(processor, "do_resize", False):
        resized, crop = _scaled(processor, given)
    if getattr(processor, "do_center_crop", False):
        sides = _sides(processor.crop_size)
        edge = sides.get("shortest_edge")
        crop = (edge, edge) if edge else (sides["height"], sides["width"])
    return None if resized == given else resized, None if crop == (resized or given) else crop


def _scaled(processor: Any, given: Side) -> tuple[Side, Side | None]:
    """The size to which a processor scales images, and the crop that belongs to it in some families."""
    sides, family = _sides(processor.size), type(processor).__name__
    edge, share = sides.get("shortest_edge"), float(getattr(processor, "crop_pct", None) or 1)
    if family.startswith("ConvNext") and edge:
        if edge >= 384:
            return (edge, edge), None
        return _by_shorter(given, int(edge / share)), (edge, edge)
    if family.startswith("PoolFormer"):
        return _by_shorter(given, int((edge or sides["height"]) / share)), None
    if family.startswith("Levit") and edge:
        return _by_shorter(given, int(256 / 224 * edge)), None
    if edge:
        return _by_shorter(given, edge, sides.get("longest_edge")), None
    if not {"height", "width"} <= sides.keys():
        raise ValueError(f"it scales by {', '.join(sides) or 'rules of its own'}, which attar cannot repeat")
    return (sides["height"], sides["width"]), None


def _by_shorter(given: Side, edge: int, most: int | None = None) -> Side:
    """The size with the same proportions whose shorter side is `edge`, and whose longer side is at most `most`."""
    short, long = sorted(given)
    if most is not None and long / short * edge > most:
        exact = most * short / long
        edge, other = round(exact), int(exact * long / short)
    else:
        other = int(edge * long / short)
    return (other, edge) if given[1] <= given[0] else (edge, other)


def _sides(size: Any) -> dict[str, int]:
    """The sides that a processor's size names; a number alone is the shorter side."""
    if isinstance(size, int):
        return {"shortest_edge": size}
    known = size if isinstance(size, Mapping) else {} if size is None else vars(size)
    return {name: int(value) for name, value in known.items() if value is not None}


def _filter(processor: Any) -> int:
    resample = getattr(processor, "resample", None)
    return BILINEAR if resample is None else int(resample)


def _told(processor: Any, name: str) -> str:
    return f"the image processor of {name} ({type(processor).__name__})"


def _size(shape: Any) -> str:
    return "×".join(map(str, shape))
