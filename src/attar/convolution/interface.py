"""What every way of convolving offers: prepare the weights once, convolve, tell its bytes."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from torch import Tensor

from attar.convolution.compiled import Backend
from attar.convolution.geometry import Geometry, Maps, Outputs, check_finite
from attar.core.errors import InputError


class Convolution(ABC):
    """One convolution with its weights prepared: `method = Method.prepare(weight, bias, geometry)`, `method(x)`.

    All methods give what `torch.nn.functional.conv2d` gives, up to the order of summation. They are for inference: no
    gradient passes through them.
    """

    name: ClassVar[str]
    """What it is called in plans and tables."""
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
        """Bring the weights into the order in which they will be read. The bias is added in the same pass."""

    @abstractmethod
    def run(self, activation: Maps) -> Outputs:
        """Convolve an activation that was checked."""

    @abstractmethod
    def bytes(self, activation: Tensor) -> int:
        """Bytes of what stands between the activation and the multiplication: a lowered or a compressed map."""

    def __call__(self, activation: Tensor) -> Tensor:
        """Convolve `[image, channel, height, width]`, in either layout of memory.

        Raises:
            InputError: Wrong rank, channels or type, a map smaller than the kernel, NaN or infinities.
        """
        self.geometry.check(activation)
        return self.run(activation.detach())


class Lowering(Convolution):
    """A convolution that does not look at its activation's values, and so has to be told to refuse NaN."""

    def __call__(self, activation: Tensor) -> Tensor:
        """Convolve `[image, channel, height, width]`."""
        self.geometry.check(activation)
        check_finite(activation)
        return self.run(activation.detach())


class Compiled(Convolution):
    """A convolution whose loops run on what the machine has: a C++ compiler, Numba, or plain PyTorch."""

    backend: Backend

    @property
    def note(self) -> str:
        """What there is to say about the backend."""
        return self.backend.note


def check_weight(weight: Tensor, bias: Tensor | None, geometry: Geometry) -> None:
    """Refuse weights that are not those of the geometry.

    Raises:
        InputError: Their shapes differ.
    """
    wanted = (geometry.filters, geometry.channels, *geometry.kernel)
    if tuple(weight.shape) != wanted:
        raise InputError(f"the weight is {tuple(weight.shape)}, but the geometry asks for {wanted}.")
    if bias is not None and tuple(bias.shape) != wanted[:1]:
        raise InputError(f"the bias is {tuple(bias.shape)}; it must have one value for each of {wanted[0]} filters.")
