"""Low-rank adapters of a student's network by peft, which are added to its weights when it is written.

Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, arXiv:2106.09685.
"""

import copy
from dataclasses import dataclass
from typing import Annotated, TypeVar

import torch
from torch import nn

from attar.core.errors import InputError
from attar.core.extras import install
from attar.core.seeds import seeded
from attar.core.settings import Range, Settings

M = TypeVar("M", bound=nn.Module)
ADAPTED = (nn.Linear, nn.Conv2d)
"""Layers that get adapters."""


@dataclass(frozen=True, kw_only=True)
class Lora(Settings):
    """Settings of low-rank adapters."""

    lora_rank: Annotated[int, Range(0)] = 0
    """Rank of the low-rank adapters. 0 trains all parameters."""
    lora_alpha: Annotated[int, Range(1)] = 8
    """α of the low-rank adapters: their output is multiplied by α divided by the rank."""


def adapt(network: nn.Module, lora: Lora, generator: torch.Generator) -> None:
    """Give every linear layer and convolution of a network an adapter, in place; only adapters learn from then on.

    Args:
        network: What is adapted. Nothing happens if the rank is 0.
        lora: Rank and α.
        generator: Draws one factor of each adapter; the other begins at zero.

    Raises:
        InputError: Peft is not installed.
    """
    if not lora.lora_rank:
        return
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError:
        raise InputError(f"lora_rank needs peft: {install('samplers')}.") from None
    names = [name for name, layer in network.named_modules() if isinstance(layer, ADAPTED)]
    config = LoraConfig(r=lora.lora_rank, lora_alpha=lora.lora_alpha, lora_dropout=0.0, target_modules=names)
    with seeded(generator):
        inject_adapter_in_model(config, network)


def merged(network: M) -> M:
    """A copy of a network with its adapters added to its weights, made of the layers that it had before."""
    made = copy.deepcopy(network)
    for name, layer in list(made.named_modules()):
        if hasattr(layer, "merge") and hasattr(layer, "get_base_layer"):
            layer.merge()
            home, _, last = name.rpartition(".")
            setattr(made.get_submodule(home), last, layer.get_base_layer())
    return made
