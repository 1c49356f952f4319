"""Augmented views that come again: every number of a view gives each image one shift and one side.

What a teacher has said of a view can so be stored, and read when a student sees the same view.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.seeds import permutation, uniform

Images = Float[Tensor, "sample channel height width"]


@dataclass(frozen=True)
class View:
    """How each image of a set is seen: moved by some pixels, and mirrored or not."""

    down: Int[Tensor, " image"]
    right: Int[Tensor, " image"]
    mirrored: Bool[Tensor, " image"]
    most: int
    """The largest move either way."""

    @classmethod
    def drawn(cls, seed: int, number: int, images: int, *, shift: int, flips: bool) -> "View":
        """The view of a number: shifts uniform in ±`shift`, sides by a coin."""
        moves = (
            uniform(seed, f"view {number}", 3, images) * torch.tensor([[2 * shift + 1], [2 * shift + 1], [2]])
        ).long()
        sides = moves[2].bool() if flips else torch.zeros(images, dtype=torch.bool)
        return cls(moves[0], moves[1], sides, shift)

    def shown(self, images: Images, rows: Int[Tensor, " sample"]) -> Images:
        """Images of these rows as the view has them; what moves in from outside is zero, the mean of network input.

        (The field's code pads pixels before they are normalised, with black.)
        """
        if not self.most and not self.mirrored.any():
            return images
        device, (height, width) = images.device, images.shape[2:]
        down, right, mirrored = (part[rows].to(device) for part in (self.down, self.right, self.mirrored))
        padded = F.pad(images, (self.most,) * 4).permute(0, 2, 3, 1)
        ys = down[:, None] + torch.arange(height, device=device)
        xs = torch.arange(width, device=device).expand(len(rows), -1)
        xs = right[:, None] + torch.where(mirrored[:, None], width - 1 - xs, xs)
        sample = torch.arange(len(rows), device=device)[:, None, None]
        return padded[sample, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2)


def order_of(seed: int, epoch: int, images: int) -> Int[Tensor, " image"]:
    """The order in which an epoch goes through the images."""
    return permutation(seed, f"order {epoch}", images)
