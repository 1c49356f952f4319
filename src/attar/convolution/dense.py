"""PyTorch's own convolution (oneDNN on a CPU): direct, without a lowered matrix. Every method is compared with it."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.convolution.geometry import Bias, Geometry, Maps, Outputs, Weight
from attar.convolution.interface import Convolution, check_weight
from attar.core.errors import unknown

FORMATS = {"nchw": torch.contiguous_format, "channels-last": torch.channels_last}


@dataclass(frozen=True)
class Dense(Convolution):
    """`conv2d` in one of PyTorch's two memory layouts. It accepts NaN, as PyTorch does."""

    weight: Weight
    bias: Bias | None
    geometry: Geometry
    layout: str = "channels-last"

    name: ClassVar[str] = "dense"

    @classmethod
    def prepare(cls, weight: Tensor, bias: Tensor | None, geometry: Geometry, *, layout: str = "channels-last") -> Self:
        """Bring the weights into the memory layout of the activations."""
        check_weight(weight, bias, geometry)
        if layout not in FORMATS:
            raise unknown("layout", layout, FORMATS)
        laid_out = weight.detach().contiguous(memory_format=FORMATS[layout])
        return cls(laid_out, None if bias is None else bias.detach(), geometry, layout)

    def run(self, activation: Maps) -> Outputs:
        """Convolve. An activation in the other layout is converted first."""
        ordered = activation.contiguous(memory_format=FORMATS[self.layout])
        return F.conv2d(ordered, self.weight, self.bias, self.geometry.stride, self.geometry.padding)

    def bytes(self, activation: Tensor) -> int:
        """Zero bytes, because there is no lowered matrix."""
        return 0
