"""The interface of every convolution method: prepare the weights once, convolve, count the bytes of the lowered map."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from torch import Tensor

from attar.convolution.compiled import Backend
from attar.convolution.geometry import Geometry, Maps, Outputs, check_finite
from attar.core.errors import InputError


class Convolution(ABC):
    """One convolution with prepared weights: `method = Method.prepare(weight, bias, geometry)`, `method(x)`.

    All methods give the result of `torch.nn.functional.conv2d`, up to the order of summation. They are for inference
    only: no gradient passes through them.
    """

    name: ClassVar[str]
    """Name of the method in plans and tables."""
    geometry: Geometry
    layout: str = "channels-last"
    """The layout of memory in which it takes an activation without copying it."""

    @property
    def note(self) -> str:
        """Why it is not as fast as it could be here; empty where it is."""
        return ""

    @classmethod
    @abstractmethod
    def prepare(cls, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Self:
        """Bring the weights into the order in which the method reads them. `run` adds the bias in the same pass."""

    @abstractmethod
    def run(self, activation: Maps) -> Outputs:
        """Convolve a checked activation."""

    @abstractmethod
    def bytes(self, activation: Tensor) -> int:
        """Bytes that a call holds beside its input, weights and output: a lowered map, or room for a compressed one."""

    def counted_bytes(self, activation: Tensor) -> int:
        """Bytes of the lowered or compressed maps of all images, as the method's paper counts them."""
        return self.bytes(activation)

    def __call__(self, activation: Tensor) -> Tensor:
        """Convolve `[image, channel, height, width]`, in either memory layout.

        Raises:
            InputError: Rank, channels or type are wrong, the map is smaller than the kernel, or a value is not finite.
        """
        self.geometry.check(activation)
        return self.run(activation.detach())


class Lowering(Convolution):
    """A convolution that does not inspect the values of its activation, so NaN needs a check of its own."""

    def __call__(self, activation: Tensor) -> Tensor:
        """Check the activation, its values included, and convolve `[image, channel, height, width]`."""
        self.geometry.check(activation)
        check_finite(activation)
        return self.run(activation.detach())


class Compiled(Convolution):
    """A convolution whose loops run on an available backend: compiled C++, Numba, or plain PyTorch."""

    backend: Backend

    @property
    def note(self) -> str:
        """What there is to say about the backend."""
        return self.backend.note


def check_weight(weight: Tensor, bias: Tensor | None, geometry: Geometry) -> None:
    """Refuse weights that do not fit the geometry.

    Raises:
        InputError: The shape of the weight or the bias is wrong.
    """
    wanted = (geometry.filters, geometry.channels, *geometry.kernel)
    if tuple(weight.shape) != wanted:
        raise InputError(f"the weight has shape {tuple(weight.shape)}; with this geometry it must be {wanted}.")
    if bias is not None and tuple(bias.shape) != wanted[:1]:
        raise InputError(f"the bias has shape {tuple(bias.shape)}; it must have {wanted[0]} values, one per filter.")
