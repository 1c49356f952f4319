"""Random convolutions, with real values everywhere: ones would hide a wrong index."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attar.convolution.geometry import Geometry


@dataclass
class Case:
    activation: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: Geometry

    @property
    def wanted(self) -> Tensor:
        """The definition in double precision."""
        bias = None if self.bias is None else self.bias.double()
        place = (self.geometry.stride, self.geometry.padding)
        return F.conv2d(self.activation.double(), self.weight.double(), bias, *place).float()


class Draw:
    """Draws convolutions; whatever is not given is drawn too."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def number(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def sparse(self, *shape: int, density: float) -> Tensor:
        alive = torch.rand(*shape, generator=self.generator) < density
        return self.normal(*shape) * alive

    def case(self, *, density: float | None = None, filters: int | None = None, channels: int | None = None) -> Case:
        down, right = self.number(1, 5), self.number(1, 5)
        stride, padding = ((self.number(low, high), self.number(low, high)) for low, high in ((1, 3), (0, 2)))
        height = self.number(max(1, down - 2 * padding[0]), 11)
        width = self.number(max(1, right - 2 * padding[1]), 11)
        images, channels, filters = self.number(1, 2), channels or self.number(1, 20), filters or self.number(1, 70)
        density = (0.0, 0.05, 0.3, 1.0)[self.number(0, 3)] if density is None else density
        weight = self.normal(filters, channels, down, right)
        bias = self.normal(filters) if self.number(0, 1) else None
        geometry = Geometry.of_weight(weight, stride=stride, padding=padding)
        return Case(self.sparse(images, channels, height, width, density=density), weight, bias, geometry)


@pytest.fixture
def draw() -> Draw:
    return Draw(0)


def assert_equals_conv2d(case: Case, made: Tensor) -> None:
    torch.testing.assert_close(made, case.wanted, rtol=1e-4, atol=2e-4)


@pytest.fixture(scope="session")
def equals_conv2d():
    return assert_equals_conv2d
