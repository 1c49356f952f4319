"""The geometry of a convolution (channels, kernel, stride, zero padding), and the size of its output."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError

Maps = Float[Tensor, "image channel height width"]
Outputs = Float[Tensor, "image filter out_height out_width"]
Weight = Float[Tensor, "filter channel kernel_height kernel_width"]
Bias = Float[Tensor, " filter"]
Pair = tuple[int, int]
"""Two numbers: down and right."""


@dataclass(frozen=True)
class Geometry:
    """A plain two-dimensional convolution on maps of any size. Dilation and groups are not supported."""

    channels: int
    filters: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    """Rows of zeros above and below, columns of zeros left and right. The zeros are never stored."""

    def __post_init__(self) -> None:
        if min(self.channels, self.filters, *self.kernel, *self.stride) < 1 or min(self.padding) < 0:
            raise InputError(f"{self} is no convolution; counts, kernel and stride must be >= 1, padding >= 0.")

    @classmethod
    def of_weight(cls, weight: Tensor, *, stride: int | Pair = 1, padding: int | Pair = 0) -> Self:
        """The convolution of a weight `[filter, channel, kernel height, kernel width]`.

        Raises:
            InputError: The weight does not have four axes, or the geometry is impossible.
        """
        if weight.ndim != 4:
            raise InputError(f"the weight has {weight.ndim} axes; it must be [filter, channel, height, width].")
        filters, channels, down, right = weight.shape
        return cls(channels, filters, (down, right), _pair(stride), _pair(padding))

    @classmethod
    def of_layer(cls, layer: nn.Conv2d) -> Self:
        """The convolution of a layer without groups and dilation."""
        padding = _padding_of(layer) if isinstance(layer.padding, str) else _pair(layer.padding)
        kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
        return cls(layer.in_channels, layer.out_channels, kernel, stride, padding)

    def output(self, height: int, width: int) -> Pair:
        """Height and width of the output for a map.

        Raises:
            InputError: The padded map is smaller than the kernel.
        """
        padded = (height + 2 * self.padding[0], width + 2 * self.padding[1])
        if padded[0] < self.kernel[0] or padded[1] < self.kernel[1]:
            raise InputError(
                f"a kernel of {_size(self.kernel)} does not fit on a map of {_size(padded)} (padding included)."
            )
        down, right = ((padded[a] - self.kernel[a]) // self.stride[a] + 1 for a in (0, 1))
        return down, right

    def check(self, activation: Tensor) -> None:
        """Refuse an activation that does not fit this convolution.

        Raises:
            InputError: The rank or the channels are wrong, or the activation is not float32, not on the CPU, or smaller
                than the kernel.
        """
        if activation.ndim != 4:
            raise InputError(f"the activation has {activation.ndim} axes; it must be [image, channel, height, width].")
        if activation.shape[1] != self.channels:
            raise InputError(f"the activation has {activation.shape[1]} channels, but the kernel has {self.channels}.")
        if activation.dtype != torch.float32 or activation.device.type != "cpu":
            kind = str(activation.dtype).removeprefix("torch.")
            raise InputError(f"the activation is {kind} on {activation.device}; it must be float32 on the CPU.")
        self.output(*activation.shape[2:])

    def __str__(self) -> str:
        text = f"{self.channels}→{self.filters}, {_size(self.kernel)}"
        text += f", stride {_size(self.stride)}" if self.stride != (1, 1) else ""
        return text + (f", padding {_size(self.padding)}" if self.padding != (0, 0) else "")


def check_finite(activation: Tensor) -> None:
    """Refuse NaN and infinite values. It computes a sum first, which costs a tenth of a check of every value.

    Raises:
        InputError: A value is NaN or infinite.
    """
    if not activation.sum().isfinite() and not activation.isfinite().all():
        raise not_finite()


def not_finite() -> InputError:
    """The error for an activation with NaN or infinite values."""
    return InputError("the activation has NaN or infinite values; a sparse convolution needs finite ones.")


def _padding_of(layer: nn.Conv2d) -> Pair:
    """The paddings `"valid"` and `"same"` as numbers. For a kernel of even size, "same" has unequal sides."""
    if layer.padding == "valid":
        return (0, 0)
    down, right = _pair(layer.kernel_size)
    if down % 2 == 0 or right % 2 == 0:
        raise InputError(f"padding='same' for a kernel of {down}×{right} is unequal on both sides; it must be equal.")
    return down // 2, right // 2


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _size(pair: Pair) -> str:
    return f"{pair[0]}×{pair[1]}"
