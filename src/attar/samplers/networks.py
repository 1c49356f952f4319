"""Networks F(c_in x, c_noise, labels) of diffusion models: a residual MLP, and diffusers' U-Net by its configuration.

A network is named by words, such as mlp:width=384,depth=3 or unet:width=32. It gives a tensor of the shape of its
input. `encoded` gives the features that a discriminator reads: those before the last layer of the MLP, and the
bottleneck of the U-Net.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError, unknown
from attar.core.seeds import seeded
from attar.core.settings import Range, Settings, words
from attar.samplers.schedules import SMALL

Shape = tuple[int, ...]
NO_LABEL = -1
"""The label of a sample without one: its embedding is zero."""
FREQUENCIES = 16


@dataclass(frozen=True, kw_only=True)
class MLPWords(Settings):
    """Settings of the residual MLP, as words: mlp:width=384,depth=3."""

    width: Annotated[int, Range(1, 8192)] = 384
    """Units of each block."""
    depth: Annotated[int, Range(1, 64)] = 3
    """Number of residual blocks."""
    dropout: Annotated[float, Range(0, 0.9)] = 0.0
    """Share of a block's inner units that is dropped in training."""


class ResidualMLP(nn.Module):
    """Residual blocks on the flattened sample; noise level and label are added to the input of each block.

    Args:
        shape: Of a sample.
        classes: Number of classes; 0 of samples without labels.
        how: Width, depth and dropout.
    """

    def __init__(self, shape: Shape, classes: int, how: MLPWords) -> None:
        super().__init__()
        self.shape, self.classes, size = shape, classes, math.prod(shape)
        self.register_buffer("frequencies", math.pi * torch.arange(1, FREQUENCIES + 1) / 8)
        self.enter = nn.Linear(size, how.width)
        self.level = nn.Linear(2 * FREQUENCIES, how.width)
        self.label = nn.Linear(classes, how.width, bias=False) if classes else None
        self.blocks = nn.ModuleList(Block(how.width, how.dropout) for _ in range(how.depth))
        self.leave = nn.Linear(how.width, size)

    def forward(
        self, x: Float[Tensor, "batch ..."], noise: Float[Tensor, " _batch"], labels: Int[Tensor, " _batch"] | None
    ) -> Float[Tensor, "batch ..."]:
        """The output of the network.

        Args:
            x: Scaled samples c_in x.
            noise: c_noise = ln(σ) / 4 of each.
            labels: Class numbers; `NO_LABEL`, or None for all, of samples without.
        """
        return self.leave(self.encoded(x, noise, labels)).view_as(x)

    def encoded(
        self, x: Float[Tensor, "batch ..."], noise: Float[Tensor, " _batch"], labels: Int[Tensor, " _batch"] | None
    ) -> Float[Tensor, "batch w"]:
        """The features before the last layer."""
        angles = noise.to(x)[:, None] * self.frequencies.to(x)  # type: ignore[operator]
        told = self.level(torch.cat([angles.cos(), angles.sin()], dim=1))
        if self.label is not None and labels is not None:
            told = told + self.label(one_hot(labels, self.classes).to(x))
        hidden = self.enter(x.flatten(1)) + told
        for block in self.blocks:
            hidden = block(hidden, told)
        return F.silu(hidden)


class Block(nn.Module):
    """h + W₂ silu(W₁ silu(h + what is told of noise level and label)), without a norm, which blurs small samples."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Float[Tensor, "batch w"], told: Float[Tensor, "batch w"]) -> Float[Tensor, "batch w"]:
        """The output of the block."""
        inner = F.silu(self.inner(F.silu(hidden + told)))
        return hidden + self.outer(self.dropout(inner))


def one_hot(labels: Int[Tensor, " _batch"], classes: int) -> Int[Tensor, "batch classes"]:
    """A row for each label, of zeros where there is none."""
    return F.one_hot(labels.clamp(min=0), classes) * (labels >= 0)[:, None]


def usual(shape: Shape) -> str:
    """The network that is trained on samples of a shape, where none is named."""
    if len(shape) == 1:
        return "mlp:width=128,depth=2"
    return "mlp:width=384,depth=3" if max(shape[1:]) <= SMALL else "unet:width=32"


def network_named(text: str, shape: Shape, classes: int, generator: torch.Generator) -> nn.Module:
    """A network with fresh parameters.

    Args:
        text: mlp or unet, with options; auto for the usual one of the shape.
        shape: Of a sample.
        classes: Number of classes; 0 of samples without labels.
        generator: Draws the parameters.

    Raises:
        InputError: There is no such network or option, it does not take samples of the shape, or diffusers is not
            installed.
    """
    name, given = words(usual(shape) if text == "auto" else text)
    if name == "unet":
        from attar.samplers.unet import unet

        with seeded(generator):
            return unet(given, shape, classes)
    if name != "mlp":
        raise unknown("network", name, ("mlp", "unet"))
    with seeded(generator):
        return ResidualMLP(shape, classes, options_of(MLPWords, name, given))


def options_of(kind: type[Any], name: str, given: dict[str, str]) -> Any:
    """The options of a network in words, as settings.

    Raises:
        InputError: An option is unknown, or its value is no number.
    """
    fields = kind.__dataclass_fields__
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key not in fields:
            raise unknown(f"option of {name}", key, fields)
        number = type(fields[key].default)
        try:
            found[key] = number(value)
        except ValueError:
            whole = "whole " if number is int else ""
            raise InputError(f"{key} of {name} is {value!r}; it must be a {whole}number.") from None
    return kind(**found)
