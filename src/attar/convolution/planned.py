"""A network whose convolutions run by the methods of a plan. Its parameters keep their names and values."""

import copy
import math
from collections.abc import Mapping
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor, nn

from attar.convolution.dense import FORMATS
from attar.convolution.geometry import Geometry
from attar.convolution.interface import Convolution
from attar.convolution.methods import method_named
from attar.core.errors import InputError

LOOKED_AT = 2**12
"""Number of values by which changes of a larger weight are noticed."""
SMALL = 2**17
"""Number of values up to which all values of a weight are looked at."""


class PlannedConv2d(nn.Conv2d):
    """A convolution by a chosen method. It is prepared again if its weights have changed.

    The output has the memory layout that PyTorch would give it, whatever layout the method computes in. PyTorch's own
    convolution is used on another device, with another precision, and if gradients are needed.
    """

    method: str

    @classmethod
    def of(cls, layer: nn.Conv2d, method: str) -> Self:
        """A layer that convolves by a method and shares the parameters of another layer.

        Raises:
            InputError: There is no such method, or no method can take the place of the layer.
        """
        method_named(method)
        why = unfit(layer)
        if why:
            raise InputError(f"the convolution {layer} cannot run by {method}: {why}.")
        size, place = layer.kernel_size, {"stride": layer.stride, "padding": layer.padding}
        channels = (layer.in_channels, layer.out_channels)
        planned = cls(*channels, size, **place, bias=layer.bias is not None, device="meta")  # type: ignore[arg-type]
        planned.weight, planned.bias = layer.weight, layer.bias
        planned.method = method
        planned._prepared = None
        return planned.train(layer.training)

    _prepared: tuple[list["_Seen"], Convolution] | None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (PyTorch's name)
        """Convolve."""
        usual = input.dtype == torch.float32 and input.device.type == "cpu" and input.ndim == 4
        if not usual or input.requires_grad or (self.weight.requires_grad and torch.is_grad_enabled()):
            return super().forward(input)
        last = _is_channels_last(input) or _is_channels_last(self.weight)
        return self._method()(input).contiguous(memory_format=FORMATS["channels-last" if last else "nchw"])

    def _method(self) -> Convolution:
        held = [tensor for tensor in (self.weight, self.bias) if tensor is not None]
        if self._prepared is None or not all(map(_Seen.is_still, self._prepared[0], held)):
            method = method_named(self.method).prepare(self.weight, self.bias, Geometry.of_layer(self))
            self._prepared = [_Seen(tensor) for tensor in held], method
        return self._prepared[1]

    def __getstate__(self) -> dict[str, Any]:
        """The state without the prepared weights, which are made again when they are needed."""
        return {**self.__dict__, "_prepared": None}

    def extra_repr(self) -> str:
        """The text that `print(network)` shows."""
        return f"{super().extra_repr()}, method={self.method}"


def with_methods(network: nn.Module, methods: Mapping[str, str], *, layout: str = "channels-last") -> nn.Module:
    """A copy of a network for inference, whose layers (by name) convolve by the given methods.

    Args:
        network: The network. It is not changed.
        methods: Methods by the names of layers.
        layout: Memory layout between layers. `channels-last` is faster. A network that calls `view` after a convolution
            needs `nchw`.

    Raises:
        InputError: The network has no convolution of that name, or one that no method can take the place of.
    """
    planned = copied(network).eval().requires_grad_(False)
    planned = planned.to(memory_format=FORMATS[layout])  # type: ignore[call-overload]
    layers = dict(planned.named_modules())
    for name, method in methods.items():
        layer = layers.get(name)
        if not isinstance(layer, nn.Conv2d):
            raise InputError(f"the network has no convolution {name!r}; the plan is of another network.")
        owner, _, own = name.rpartition(".")
        if not name:
            return PlannedConv2d.of(layer, method)
        setattr(layers[owner], own, PlannedConv2d.of(layer, method))
    return planned


def copied(network: nn.Module) -> nn.Module:
    """A copy of a network.

    Raises:
        InputError: A weight of it is computed from others, as `torch.nn.utils.prune` leaves it, and has no copy.
    """
    try:
        return copy.deepcopy(network)
    except RuntimeError as error:
        raise InputError(
            "the network cannot be copied, because some of its weights are computed from others. Make them plain "
            "first: torch.nn.utils.prune.remove, or torch.nn.utils.remove_weight_norm."
        ) from error


def unfit(layer: nn.Conv2d) -> str:
    """The reason why no method can take the place of a layer, whatever its input; empty if there is none."""
    reasons = {
        f"it has {layer.groups} groups": layer.groups != 1,
        "it is dilated": any(step != 1 for step in layer.dilation),
        f"it pads with {layer.padding_mode}, not with zeros": layer.padding_mode != "zeros",
        f"it is a {type(layer).__name__}, not a plain Conv2d": type(layer) not in (nn.Conv2d, PlannedConv2d),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


class _Seen:
    """A tensor as it was: its memory, its version, and a checksum.

    Writing through `.data` or NumPy changes neither memory nor version. Of a large tensor the checksum sees values at
    equal distances only, because it may cost no more than a small part of the convolution. Whole channels and whole
    positions of a kernel are always among them.
    """

    def __init__(self, tensor: Tensor) -> None:
        stored = tensor.detach().permute(0, 2, 3, 1) if _is_channels_last(tensor) else tensor.detach()
        flat = stored.reshape(-1)
        self.tensor, self.place = tensor, tensor.data_ptr()
        self.values = flat if len(flat) <= SMALL else flat[:: _distance(len(flat))][:LOOKED_AT]
        self.factors = _factors(len(self.values), flat.dtype)
        self.version, self.sum = _version(tensor), self._sum()

    def _sum(self) -> float:
        return torch.dot(self.values, self.factors).item()

    def is_still(self, tensor: Tensor) -> bool:
        """Whether a tensor is this one, with the same values."""
        same = tensor is self.tensor and tensor.data_ptr() == self.place and _version(tensor) == self.version
        return same and self._sum() == self.sum


def _version(tensor: Tensor) -> int:
    """Number of times that a tensor was changed in place; 0 for a tensor that was made in inference mode."""
    return 0 if tensor.is_inference() else tensor._version


@cache
def _distance(count: int) -> int:
    """The distance of the values that are looked at. It shares no factor with the sides of the tensor.

    With a shared factor the same channels, or the same position of every kernel, would be looked at again and again.
    """
    return next(step for step in range(count // LOOKED_AT, 0, -1) if math.gcd(step, count) == 1)


@cache
def _factors(count: int, dtype: torch.dtype) -> Tensor:
    """Fixed random factors of a checksum, so that values that change places change it."""
    with torch.inference_mode(False):
        return torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=dtype)
