"""The refinement layer F_φ, which repairs a rendered map of latents in image space.

A latent pixel sees the whole image through the encoder's attention and norms, so that the latents of one point in space
differ from view to view, and no field can reproduce them. The layer sees the whole map. It starts as the identity.
Park, Kwon and Ye, ED-NeRF, ICLR 2024, arXiv:2310.02712. The paper's text does not fix the order of the blocks; here
they are conv 3×3 → Res(C) → Attn(C) → Res(C) → conv 3×3 that starts at zero, added to the input.
"""

from typing import Self

import torch
from torch import nn

from attar.core.seeds import seeded
from attar.scenes.blocks import Attention, Maps, Residual


class Refinement(nn.Module):
    """F_φ(z) = z + conv₀(Res(Attn(Res(conv(z))))).

    Args:
        channels: Of the latents.
        width: C, channels of the blocks.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.channels, self.width = channels, width
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.Sequential(Residual(width), Attention(width), Residual(width))
        self.leave = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    @classmethod
    def drawn(cls, channels: int, width: int, generator: torch.Generator) -> Self:
        """A fresh layer, drawn by a generator."""
        with seeded(generator):
            return cls(channels, width)

    def forward(self, maps: Maps) -> Maps:
        """The repaired maps."""
        return maps + self.leave(self.blocks(self.enter(maps)))
