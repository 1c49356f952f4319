"""Float32 master copies of 16-bit parameters: the optimiser takes its steps in them, and they are rounded afterwards.

A step that is smaller than what 16 bits resolve changes the master nevertheless, and in time the parameter. bfloat16
has the exponents of float32, so no loss has to be scaled.
Micikevicius et al., Mixed Precision Training, ICLR 2018, arXiv:1710.03740, section 3.1.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn


def in_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A network whose parameters have this type now, in place. Buffers, such as angles of positions, stay as they are.

    Do this before the first pass with a gradient.
    """
    for parameter in network.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    return network


class Masters:
    """Master copies of parameters, whose gradients come from the parameters.

    A gradient is added to that of the master in float32 as soon as it is complete, and is dropped from the parameter.
    So the gradients of several passes are summed in float32.

    Args:
        parameters: By name, in the precision of their start.
        dtype: The type that the parameters have from now on.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], dtype: torch.dtype = torch.bfloat16) -> None:
        self._parameters = dict(parameters)
        self.values: dict[str, Tensor] = {}
        """The masters by the names of their parameters."""
        for name, parameter in self._parameters.items():
            master = nn.Parameter(parameter.detach().to(torch.float32, copy=True))
            parameter.data = parameter.data.to(dtype)
            parameter.register_post_accumulate_grad_hook(partial(_hand_over, master))
            self.values[name] = master

    @torch.no_grad()
    def write(self) -> None:
        """Round the masters into the parameters."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self.values[name])


def _hand_over(master: Tensor, parameter: Tensor) -> None:
    """Add the gradient of a parameter to that of its master."""
    assert parameter.grad is not None
    if master.grad is None:
        master.grad = parameter.grad.float()
    else:
        master.grad.add_(parameter.grad)
    parameter.grad = None
