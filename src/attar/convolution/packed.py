"""PyTorch's convolution with its weights packed once: what `conv2d` does, without reordering them at every call.

oneDNN multiplies weights in blocks of its own; `conv2d` makes those from the plain weights each time, which on small
maps with many filters costs more than the convolution. PyTorch's compiler packs them once when a network is frozen, by
the two functions used here.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from attar.convolution.dense import Dense
from attar.convolution.geometry import Geometry, Maps, Outputs, Weight
from attar.convolution.interface import Convolution, check_weight

MOST_SHAPES = 4
"""Shapes of activations for which packed weights are kept."""


@dataclass(frozen=True)
class Packed(Convolution):
    """The honest dense rival: same arithmetic as `Dense`, weights packed, channels last. NaN as PyTorch does.

    Where PyTorch was built without oneDNN it is `Dense`.
    """

    plain: Dense
    geometry: Geometry
    blocks: dict[tuple[int, ...], Tensor | None] = field(default_factory=dict)
    """The weights in oneDNN's blocks, by the shape of the activation, on which they depend."""

    name: ClassVar[str] = "packed"

    @classmethod
    def prepare(cls, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Self:
        """Keep the weights."""
        check_weight(weight, bias, geometry)
        return cls(Dense.prepare(weight, bias, geometry), geometry)

    def run(self, activation: Maps) -> Outputs:
        """Convolve; weights are packed when an activation of their shape is first seen."""
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
        """None: there is no lowered matrix."""
        return 0


def _blocked(weight: Weight, shape: tuple[int, ...], geometry: Geometry) -> Tensor | None:
    """The weights in oneDNN's blocks; None where this PyTorch has no oneDNN, or no longer these functions."""
    if not torch.backends.mkldnn.is_available():
        return None
    if geometry.channels == 1:  # where steps to the right are longer than one, oneDNN then errs (PyTorch 2.13)
        return None
    place: Any = (list(geometry.padding), list(geometry.stride), [1, 1], 1, list(shape))
    try:
        return torch._C._nn.mkldnn_reorder_conv2d_weight(weight.contiguous().to_mkldnn(), *place)
    except (AttributeError, RuntimeError, TypeError):
        return None
