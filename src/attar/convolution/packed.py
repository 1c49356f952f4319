"""PyTorch's convolution with weights that are packed once: `conv2d` without reordering the weights at every call.

oneDNN multiplies weights in its own blocks. `conv2d` makes these blocks from the plain weights at each call, which
costs more than the convolution on small maps with many filters. PyTorch's compiler packs the weights once when a
network is frozen, by the two functions used here.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from attar.convolution.dense import Dense
from attar.convolution.geometry import Geometry, Maps, Outputs, Weight
from attar.convolution.interface import Convolution, check_weight

MOST_SHAPES = 4
"""Largest number of activation shapes for which packed weights are kept."""


@dataclass(frozen=True)
class Packed(Convolution):
    """The fair dense rival: the arithmetic of `Dense`, with packed weights, channels last. It accepts NaN like PyTorch.

    If PyTorch was built without oneDNN, this is the same as `Dense`.
    """

    plain: Dense
    geometry: Geometry
    blocks: dict[tuple[int, ...], Tensor | None] = field(default_factory=dict)
    """Weights in oneDNN's blocks by the shape of the activation, because the blocks depend on it."""

    name: ClassVar[str] = "packed"

    @classmethod
    def prepare(cls, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Self:
        """Keep the weights; `run` packs them."""
        check_weight(weight, bias, geometry)
        return cls(Dense.prepare(weight, bias, geometry), geometry)

    def run(self, activation: Maps) -> Outputs:
        """Convolve. The weights are packed at the first activation of a shape."""
        shape = tuple(activation.shape)
        if shape not in self.blocks:
            if len(self.blocks) == MOST_SHAPES:
                self.blocks.clear()
            self.blocks[shape] = _blocked(self.plain.weight, shape, self.geometry)
        packed = self.blocks[shape]
        if packed is None:
            return self.plain.run(activation)
        place = self.geometry
        ordered = activation.contiguous(memory_format=torch.channels_last)
        how: Any = (list(place.padding), list(place.stride), [1, 1], 1, "none", [], "")
        return torch.ops.mkldnn._convolution_pointwise(ordered, packed, self.plain.bias, *how)

    def bytes(self, activation: Tensor) -> int:
        """Zero bytes, because there is no lowered matrix."""
        return 0


def _blocked(weight: Weight, shape: tuple[int, ...], geometry: Geometry) -> Tensor | None:
    """The weights in oneDNN's blocks; None if this PyTorch has no oneDNN or does not have these functions."""
    if not torch.backends.mkldnn.is_available():
        return None
    if geometry.channels == 1:  # oneDNN is then wrong for strides to the right above one (PyTorch 2.13)
        return None
    place: Any = (list(geometry.padding), list(geometry.stride), [1, 1], 1, list(shape))
    try:
        return torch._C._nn.mkldnn_reorder_conv2d_weight(weight.contiguous().to_mkldnn(), *place)
    except (AttributeError, RuntimeError, TypeError):
        return None
