"""Heads on top of encoders: the projector of self-supervised methods."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from torch import nn

from attar.core.settings import Range, Settings


@dataclass(frozen=True, kw_only=True)
class Projector(Settings):
    """Settings of the projector, an MLP between encoder and loss that is dropped afterwards."""

    projector_width: Annotated[int, Range(1)] = 512
    """Units of the projector's hidden layers."""
    projector_layers: Annotated[int, Range(1)] = 2
    """Linear layers of the projector."""
    projected: Annotated[int, Range(1)] = 128
    """Size of a projection, d."""
    projector_norm: bool = False
    """Whether hidden layers of the projector have batch norm."""
    projector_last_norm: bool = False
    """Whether projections have batch norm without learned scale and shift, as in LibAUC's code."""

    def build(self, width: int) -> nn.Sequential:
        """A fresh projector for so many features."""
        sizes = [width, *[self.projector_width] * (self.projector_layers - 1), self.projected]
        layers: list[nn.Module] = []
        for place, (before, after) in enumerate(pairwise(sizes)):
            layers.append(nn.Linear(before, after))
            if place < len(sizes) - 2:
                layers += [nn.BatchNorm1d(after)] if self.projector_norm else []
                layers.append(nn.ReLU())
        layers += [nn.BatchNorm1d(self.projected, affine=False)] if self.projector_last_norm else []
        return nn.Sequential(*layers)
