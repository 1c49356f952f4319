"""Several projectors on one encoder, and the temperature of every pair of projections (AMCL)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.precision import at_least_float32

Projections = Float[Tensor, "head sample d"]
"""What each head makes of a view, L2-normalised or not."""


class Heads(nn.Module):
    """Modules of one form side by side, each with weights of its own.

    With features `[sample, width]` all read the same; with `[head, sample, width]` each reads its own.
    """

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.each = nn.ModuleList(heads)

    def forward(self, features: Float[Tensor, "*head sample width"]) -> Projections:
        """The output of every head."""
        inputs = features.expand(len(self.each), *features.shape[-2:])
        if features.is_cuda and not any(isinstance(part, nn.BatchNorm1d) for part in self.modules()):
            return together(self.each, inputs)
        return torch.stack([head(one) for head, one in zip(self.each, inputs, strict=True)])


def together(
    heads: Sequence[Any] | nn.ModuleList, inputs: Float[Tensor, "head sample width"]
) -> Float[Tensor, "head sample d"]:
    """All heads by one product of matrices a layer: faster on a GPU, where small products wait for one another.

    Args:
        heads: Sequences of linear layers and ReLU, all of the same sizes.
        inputs: What each head reads.
    """
    for layers in zip(*heads, strict=True):
        if isinstance(layers[0], nn.Linear):
            weights = torch.stack([layer.weight.mT for layer in layers])
            inputs = torch.baddbmm(torch.stack([layer.bias for layer in layers])[:, None], inputs, weights)
        else:
            inputs = layers[0](inputs)
    return inputs


class PairTemperature(nn.Module):
    """φ: a temperature in a range for every pair of projections, by one product of matrices.

    τ_ij = τ_min + (τ_max - τ_min) · sigmoid(b - ⟨φ(z_i), φ(z_j)⟩), which is symmetric, and low where the ends of a pair
    are alike. One φ serves all heads. It describes each end by itself; a network that read both would have to run for
    each of the pairs. The learned b is not the authors': it lets temperatures start where they are told to.
    """

    def __init__(
        self, width: int, lowest: float, highest: float, start: float, hidden: int = 128, described: int = 64
    ) -> None:
        """A fresh network.

        Args:
            width: d, the size of a projection.
            lowest: τ_min.
            highest: τ_max. If it is τ_min, every temperature is that.
            start: Where temperatures start.
            hidden: Units of the hidden layer.
            described: Size of a description.

        Raises:
            InputError: The start is not inside the range.
        """
        super().__init__()
        if lowest < highest and not lowest < start < highest:
            raise InputError(f"temperatures cannot start at {start:g}; it must lie between {lowest:g} and {highest:g}.")
        if lowest > highest:
            raise InputError(f"the lowest temperature {lowest:g} is above the highest, {highest:g}.")
        self.lowest, self.highest = lowest, highest
        self.describe = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, described))
        for layer in (self.describe[0], self.describe[2]):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # else all descriptions begin alike and τ below its start
        share = (start - lowest) / (highest - lowest) if highest > lowest else 0.5
        self.bias = nn.Parameter(torch.tensor([math.log(share / (1 - share))]))

    def forward(
        self, first: Float[Tensor, "*head anchor d"], second: Float[Tensor, "*head candidate d"]
    ) -> Float[Tensor, "*head anchor candidate"]:
        """The temperature of every anchor with every candidate.

        Args:
            first: L2-normalised projections.
            second: Others, or the same.
        """
        return self.squashed(self.describe(first) @ self.describe(second).mT)

    def of_pairs(
        self, first: Float[Tensor, "*head sample d"], second: Float[Tensor, "*head sample d"]
    ) -> Float[Tensor, "*head sample"]:
        """The temperature of each sample's own pair."""
        return self.squashed((self.describe(first) * self.describe(second)).sum(dim=-1))

    def squashed(self, scores: Tensor) -> Tensor:
        """Scores of pairs as temperatures."""
        return self.lowest + (self.highest - self.lowest) * (self.bias - scores).sigmoid()


class ConstantTemperature(nn.Module):
    """One temperature for all pairs, in the place of `PairTemperature`."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.lowest = self.highest = self.temperature = temperature

    def forward(
        self, first: Float[Tensor, "*head anchor d"], second: Float[Tensor, "*head candidate d"]
    ) -> Float[Tensor, "*head anchor candidate"]:
        """The temperature, once for every pair, without memory for each."""
        return first.new_tensor(self.temperature).expand(*first.shape[:-1], second.shape[-2])

    def of_pairs(
        self, first: Float[Tensor, "*head sample d"], second: Float[Tensor, "*head sample d"]
    ) -> Float[Tensor, "*head sample"]:
        """The temperature, once for every sample."""
        return first.new_tensor(self.temperature).expand(first.shape[:-1])


def share_at_bounds(temperatures: Tensor, lowest: float, highest: float) -> Float[Tensor, ""]:
    """The share of temperatures within one per cent of an end of their range, where they no longer learn."""
    return ((temperatures <= 1.01 * lowest) | (temperatures >= 0.99 * highest)).float().mean()


def directions(values: Float[Tensor, "*head sample d"]) -> Float[Tensor, "*head sample d"]:
    """L2-normalised projections, in single precision or better."""
    return F.normalize(at_least_float32(values), dim=-1)
