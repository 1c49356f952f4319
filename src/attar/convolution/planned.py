"""A network whose convolutions run by the methods of a plan. Its parameters keep their names and values."""

import copy
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from attar.convolution.geometry import Geometry
from attar.convolution.interface import Convolution
from attar.convolution.methods import method_named
from attar.core.errors import InputError


class PlannedConv2d(nn.Conv2d):
    """A convolution by a chosen method. It is prepared again if its weights have changed.

    PyTorch's own convolution is used on another device, with another precision, and if gradients are needed.
    """

    method: str

    @classmethod
    def of(cls, layer: nn.Conv2d, method: str) -> Self:
        """A layer that convolves by a method and shares the parameters of another layer."""
        method_named(method)
        size, place = layer.kernel_size, {"stride": layer.stride, "padding": layer.padding}
        channels = (layer.in_channels, layer.out_channels)
        planned = cls(*channels, size, **place, bias=layer.bias is not None, device="meta")  # type: ignore[arg-type]
        planned.weight, planned.bias = layer.weight, layer.bias
        planned.method = method
        planned._prepared = None
        return planned.train(layer.training)

    _prepared: tuple[Any, Convolution] | None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (PyTorch's name)
        """Convolve."""
        usual = input.dtype == torch.float32 and input.device.type == "cpu" and input.ndim == 4
        if not usual or input.requires_grad or (self.weight.requires_grad and torch.is_grad_enabled()):
            return super().forward(input)
        return self._method()(input)

    def _method(self) -> Convolution:
        stamp = [(id(tensor), _version(tensor)) for tensor in (self.weight, self.bias) if tensor is not None]
        if self._prepared is None or self._prepared[0] != stamp:
            method = method_named(self.method).prepare(self.weight, self.bias, Geometry.of_layer(self))
            self._prepared = (stamp, method)
        return self._prepared[1]

    def __getstate__(self) -> dict[str, Any]:
        """The state without the prepared weights, which are made again when they are needed."""
        return {**self.__dict__, "_prepared": None}

    def extra_repr(self) -> str:
        """The text that `print(network)` shows."""
        return f"{super().extra_repr()}, method={self.method}"


def with_methods(network: nn.Module, methods: Mapping[str, str]) -> nn.Module:
    """A copy of a network for inference, whose layers (by name) convolve by the given methods.

    Raises:
        InputError: The network has no convolution of that name.
    """
    planned = copy.deepcopy(network).eval().requires_grad_(False)
    planned = planned.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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


def _version(tensor: Tensor) -> int:
    """Number of times that a tensor was changed in place; 0 for a tensor that was made in inference mode."""
    return 0 if tensor.is_inference() else tensor._version
