"""Low-rank deltas on the layers of a frozen network: θ' = θ + A·B, which are folded in after learning.

Hu et al., LoRA, ICLR 2022, arXiv:2106.09685. Linear layers use peft. Convolutions have two forms. The form of the LoRA
authors' loralib is A (k·out × k·r) times B (k·r × k·in), reshaped to a kernel, with r·k²·(in + out) numbers. The form
of peft is a k×k convolution down to r channels and a 1×1 convolution up, with r·(in·k² + out) numbers.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from attar.core.errors import InputError
from attar.core.extras import install

Form = Literal["loralib", "peft"]
Storage = Literal["float32", "float16", "int8"]
Factors = dict[str, Tensor]
"""The factors `layer.up` (A) and `layer.down` (B), by the name of the layer."""


class KernelDelta(nn.Module):
    """The delta of a kernel in the form of loralib."""

    def __init__(self, kernel: Float[Tensor, "out into height width"], rank: int) -> None:
        super().__init__()
        out, into, height, width = kernel.shape
        self.up = nn.Parameter(kernel.new_zeros(out * height, rank * height))
        self.down = nn.Parameter(kernel.new_zeros(rank * height, into * width))

    def forward(self, kernel: Float[Tensor, "out into height width"]) -> Float[Tensor, "out into height width"]:
        """The kernel plus its delta."""
        return kernel + delta(self.up, self.down, kernel.shape)


def delta(up: Tensor, down: Tensor, shape: torch.Size) -> Tensor:
    """The delta A·B in the shape of its weight, for both forms."""
    return (up.flatten(1) @ down.flatten(1)).reshape(shape)


def layers_of(network: nn.Module, pattern: str | None = None) -> list[str]:
    """The layers that get a delta: those whose whole name matches a regular expression.

    Without one these are all linear layers and all convolutions with kernels above 1×1, except those on pixels.

    Raises:
        InputError: No layer matches.
    """
    layers = {name: m for name, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    if pattern is None:
        return [name for name, module in layers.items() if not _spared(module)]
    try:
        found = [name for name in layers if re.fullmatch(pattern, name)]
    except re.error as error:
        raise InputError(f"adapted is {pattern!r}, which is not a regular expression ({error}).") from None
    if not found:
        raise InputError(f"adapted is {pattern!r}, which matches no layer of {', '.join(layers)}.")
    return found


def _spared(module: nn.Module) -> bool:
    """Whether a layer is a convolution on pixels, as in stems and patch embeddings, or a 1×1 convolution."""
    return isinstance(module, nn.Conv2d) and (module.in_channels <= 3 or module.kernel_size == (1, 1))


def adapt_(network: nn.Module, ranks: Mapping[str, int], form: Form, generator: torch.Generator) -> Factors:
    """Add deltas of given ranks to layers, by name, and return the factors, which are the parameters to learn.

    B is drawn and A is zero, so the network computes the same as before. Layers of rank 0 do not change.
    """
    ranks = {name: rank for name, rank in ranks.items() if rank}
    kernels = [n for n in ranks if form == "loralib" and isinstance(network.get_submodule(n), nn.Conv2d)]
    _inject(network, {name: rank for name, rank in ranks.items() if name not in kernels})
    for name in kernels:
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        parametrize.register_parametrization(layer, "weight", KernelDelta(layer.weight, ranks[name]))
    factors: Factors = {}
    for name in ranks:
        up, down = _pair(network.get_submodule(name))
        bound = 1 / math.sqrt(down[0].numel())
        with torch.no_grad():
            up.zero_()
            down.copy_(torch.empty(down.shape).uniform_(-bound, bound, generator=generator))
        factors |= {f"{name}.up": up.requires_grad_(), f"{name}.down": down.requires_grad_()}
    return factors


def fold_(network: nn.Module, factors: Factors) -> None:
    """Add every A·B to the weight of its layer, in new tensors, so that copies which share the old ones are kept."""
    for name in sorted(name.removesuffix(".up") for name in factors if name.endswith(".up")):
        layer = network.get_submodule(name)
        assert isinstance(layer, (nn.Linear, nn.Conv2d))
        added = delta(factors[f"{name}.up"], factors[f"{name}.down"], layer.weight.shape)
        layer.weight = nn.Parameter(layer.weight.detach() + added.to(layer.weight), requires_grad=False)


def packed(factors: Factors, storage: Storage) -> Factors:
    """Factors in stored form: as floats, or in 8 bits with a scale for each component of the rank."""
    if storage != "int8":
        kind = torch.float16 if storage == "float16" else torch.float32
        return {name: value.detach().to("cpu", kind) for name, value in factors.items()}
    stored: Factors = {}
    for name, value in factors.items():
        value = value.detach().cpu().float()
        others = [dim for dim in range(value.ndim) if dim != _component_dim(value)]
        largest = value.abs().amax(dim=others, keepdim=True)
        scale = torch.where(largest > 0, largest / 127, torch.ones(()))
        stored |= {name: (value / scale).round().to(torch.int8), f"{name}.scale": scale.flatten()}
    return stored


def unpacked(stored: Factors) -> Factors:
    """Factors in float32 from their stored form."""
    factors = {}
    for name, value in stored.items():
        if name.endswith(".scale"):
            continue
        shape = [1] * value.ndim
        if value.dtype == torch.int8:
            shape[_component_dim(value)] = -1
        scale = stored[f"{name}.scale"].view(shape) if value.dtype == torch.int8 else 1.0
        factors[name] = value.float() * scale
    return factors


def _component_dim(factor: Tensor) -> int:
    """The dimension of a factor that is the rank: the shorter of its first two."""
    return int(factor.shape[1] < factor.shape[0])


def _inject(network: nn.Module, ranks: Mapping[str, int]) -> None:
    """Let peft wrap these layers."""
    if not ranks:
        return
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError:
        raise InputError(f"low-rank deltas need peft: {install('transformers')}.") from None
    patterns = {f"^{re.escape(name)}$": rank for name, rank in ranks.items()}
    config = LoraConfig(
        target_modules="|".join(map(re.escape, ranks)), rank_pattern=patterns, alpha_pattern=patterns, lora_dropout=0.0
    )
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(config, network)


def _pair(layer: Any) -> tuple[nn.Parameter, nn.Parameter]:
    """The factors A and B of a layer with a delta."""
    if parametrize.is_parametrized(layer):
        added = layer.parametrizations.weight[0]
        return added.up, added.down
    return layer.lora_B["default"].weight, layer.lora_A["default"].weight
