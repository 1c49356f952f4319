"""im2col: every window of the map becomes a row of a matrix, and the convolution one product with the kernel matrix."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.convolution.geometry import Geometry, Maps, Outputs
from attar.convolution.interface import Lowering, check_weight


@dataclass(frozen=True)
class Im2col(Lowering):
    """M is OhOw × C·Kh·Kw; its row (y, x) is the window at (y, x). O = M K. PyTorch's `unfold` gives M transposed."""

    kernel: Float[Tensor, "filter position"]
    bias: Float[Tensor, "filter 1"] | None
    geometry: Geometry

    name: ClassVar[str] = "im2col"

    @classmethod
    def prepare(cls, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Self:
        """Flatten the kernel."""
        check_weight(weight, bias, geometry)
        return cls(weight.detach().flatten(1).contiguous(), None if bias is None else bias.detach()[:, None], geometry)

    def run(self, activation: Maps) -> Outputs:
        """Lower the map, then multiply."""
        place = self.geometry
        windows = F.unfold(activation, place.kernel, padding=place.padding, stride=place.stride)
        product = torch.matmul(self.kernel, windows)
        if self.bias is not None:
            product += self.bias
        return product.unflatten(2, place.output(*activation.shape[2:]))

    def bytes(self, activation: Tensor) -> int:
        """Bytes of the lowered matrix of all images."""
        down, right = self.geometry.output(*activation.shape[2:])
        return 4 * len(activation) * down * right * self.kernel.shape[1]
