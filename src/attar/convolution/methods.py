"""All convolution methods by name, and a function for a single convolution."""

from torch import Tensor

from attar.convolution.cpo import CPOConvolution
from attar.convolution.cps import CPSConvolution
from attar.convolution.dense import Dense
from attar.convolution.direct import Direct
from attar.convolution.geometry import Geometry, Pair
from attar.convolution.im2col import Im2col
from attar.convolution.interface import Convolution
from attar.convolution.mec import MEC
from attar.convolution.packed import Packed
from attar.core.errors import named

METHODS: dict[str, type[Convolution]] = {
    kind.name: kind for kind in (Dense, Packed, Im2col, MEC, CPOConvolution, CPSConvolution, Direct)
}
"""Convolution methods by name. PyTorch's own are first."""


def method_named(name: str) -> type[Convolution]:
    """The convolution method of a name.

    Raises:
        InputError: The name is unknown.
    """
    return named("method of convolution", name, METHODS)


def convolve(
    activation: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    method: str = "direct",
) -> Tensor:
    """The result of `torch.nn.functional.conv2d`, by any method. To convolve often, prepare the method once instead.

    Args:
        activation: `[image, channel, height, width]`, float32 on the CPU.
        weight: `[filter, channel, kernel height, kernel width]`.
        bias: `[filter]`.
        stride: Pixels from one window to the next, down and right.
        padding: Number of rows and of columns of zeros on each side.
        method: dense, packed, im2col, mec, cpo, cps or direct.

    Raises:
        InputError: Shapes or types are wrong, a value is NaN or infinite, or the method is unknown.
    """
    geometry = Geometry.of_weight(weight, stride=stride, padding=padding)
    return method_named(method).prepare(weight, bias, geometry)(activation)
