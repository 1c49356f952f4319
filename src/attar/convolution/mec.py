"""MEC: lower the map along its width only. Windows below one another are overlapping views of the same rows.

Cho and Brand, MEC: Memory-efficient Convolution for Deep Neural Network, ICML 2017, arXiv:1706.06873.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.convolution.geometry import Bias, Geometry, Maps, Outputs
from attar.convolution.interface import Lowering, check_weight

FOLDED_UP_TO = 100
"""Largest output width for which images are folded into one product (the paper's solution A). Not verified."""


@dataclass(frozen=True)
class MEC(Lowering):
    """L[x] holds all rows of columns [x·Sw, x·Sw + Kw), channels last; O[y] = L[:, y·Sh·Kw·C : + Kh·Kw·C] K.

    The products read L through a leading dimension of Ih·Kw·C without a copy. L has Ow·Kw·C (Oh·Kh - Ih) words less
    than im2col's matrix, which is a gain only if Kh > Sh.
    """

    kernel: Float[Tensor, "position filter"]
    bias: Bias | None
    geometry: Geometry
    folded_up_to: int = FOLDED_UP_TO

    name: ClassVar[str] = "mec"

    @classmethod
    def prepare(
        cls, weight: Tensor, bias: Tensor | None, geometry: Geometry, *, folded_up_to: int = FOLDED_UP_TO
    ) -> Self:
        """Order the kernel by row, column, channel."""
        check_weight(weight, bias, geometry)
        kernel = weight.detach().permute(2, 3, 1, 0).flatten(0, 2).contiguous()
        return cls(kernel, None if bias is None else bias.detach(), geometry, folded_up_to)

    def run(self, activation: Maps) -> Outputs:
        """Lower the map, then multiply output row by output row, for all images at once (A) or one by one (B)."""
        down, right = self.geometry.output(*activation.shape[2:])
        lowered = self.lower(activation)
        if right <= self.folded_up_to:  # A: rows of all images, then images first again
            rows = self._rows(lowered.flatten(0, 1), down)
            return rows.unflatten(1, (len(activation), right)).permute(1, 3, 0, 2)
        return torch.stack([self._rows(image, down) for image in lowered]).permute(0, 3, 1, 2)

    def lower(self, activation: Maps) -> Float[Tensor, "image window position"]:
        """The matrix L of every image. It has a row for each window side by side, each Ih·Kw·C long."""
        down, right = self.geometry.padding
        padded = F.pad(activation, (right, right, down, down)).permute(0, 2, 3, 1)
        strips = padded.unfold(2, self.geometry.kernel[1], self.geometry.stride[1])
        return strips.permute(0, 2, 1, 4, 3).flatten(2)

    def _rows(self, lowered: Float[Tensor, "window position"], count: int) -> Float[Tensor, "row window filter"]:
        """The output rows. Each is the product of a view of the lowered map and the kernel."""
        out = lowered.new_empty(count, len(lowered), self.kernel.shape[1])
        step = self.geometry.stride[0] * self.geometry.kernel[1] * self.geometry.channels
        for y, row in enumerate(out):
            window = lowered[:, y * step : y * step + len(self.kernel)]
            if self.bias is None:
                torch.mm(window, self.kernel, out=row)
            else:
                torch.addmm(self.bias, window, self.kernel, out=row)
        return out

    def bytes(self, activation: Tensor) -> int:
        """Bytes of the lowered maps of all images."""
        images, channels, height, width = activation.shape
        right = self.geometry.output(height, width)[1]
        return 4 * images * right * (height + 2 * self.geometry.padding[0]) * self.geometry.kernel[1] * channels
