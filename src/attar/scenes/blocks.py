"""Blocks of the networks that work on maps: a residual block, and self-attention over the whole map.

Both are those of the autoencoders of latent diffusion models (Rombach et al., CVPR 2022, arXiv:2112.10752).
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Maps = Float[Tensor, "map channel height width"]


def groups_of(width: int, most: int = 32) -> int:
    """The largest number of groups, up to a most, into which channels can be divided evenly."""
    return next(count for count in range(min(most, max(width // 4, 1)), 0, -1) if width % count == 0)


class Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with convolutions of 3×3 pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(groups_of(width), width) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Maps) -> Maps:
        """The output of the block."""
        hidden = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            hidden = convolution(F.silu(norm(hidden)))
        return x + hidden


class Attention(nn.Module):
    """x + self-attention of one head over all places of the map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups_of(width), width)
        self.asked, self.told = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Maps) -> Maps:
        """The output of the block."""
        count, width, height, across = x.shape
        parts = self.asked(self.norm(x)).view(count, 3, width, height * across).transpose(2, 3).contiguous()
        found = F.scaled_dot_product_attention(*parts.unbind(1))
        return x + self.told(found.transpose(1, 2).reshape(count, width, height, across))
