"""Augmented views that come again: every number of a view gives each image its shift or crop, side, turn and partner.

What a teacher has said of a view can so be stored, and read when a student sees the same view.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.seeds import permutation, uniform
from attar.images.views.crops import TRIES, boxes_from, resized_crop
from attar.images.views.epochs import beta_from, inside, pasted_from

Images = Float[Tensor, "sample channel height width"]
Rows = Int[Tensor, " sample"]
Labels = Int[Tensor, " sample"] | Float[Tensor, "sample classes"]
"""Classes; or, of mixed images, the share of each class."""


@dataclass(frozen=True)
class View:
    """How each image of a set is seen: moved by some pixels or cropped, mirrored or not, turned, mixed with another."""

    down: Int[Tensor, " image"]
    right: Int[Tensor, " image"]
    mirrored: Bool[Tensor, " image"]
    most: int
    """The largest move either way."""
    boxes: Float[Tensor, "image 4"] | None = None
    """What is cropped out, as shares of the sides, and scaled to the size of the image: instead of a move."""
    turned: Int[Tensor, " image"] | None = None
    """By how many quarters."""
    mixing: "Mixing | None" = None

    @classmethod
    def drawn(
        cls,
        seed: int,
        number: int,
        images: int,
        *,
        shift: int,
        flips: bool,
        smallest_crop: float | None = None,
        turns: bool = False,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        size: tuple[int, int] = (1, 1),
    ) -> "View":
        """The view of a number, the same each time.

        Args:
            seed: Of all views.
            number: Which view.
            images: How many there are.
            shift: Moves are uniform in ±`shift` pixels.
            flips: Whether sides are by a coin.
            smallest_crop: Smallest share of the area in a random resized crop (of aspects from 3/4 to 4/3); none unless
                given.
            turns: Whether there are quarter turns, each number of them as likely.
            mixup: α of Mixup; 0 for none.
            cutmix: α of CutMix; 0 for none.
            size: Height and width of an image, for crops and boxes.
        """
        moves = (
            uniform(seed, f"view {number}", 3, images) * torch.tensor([[2 * shift + 1], [2 * shift + 1], [2]])
        ).long()
        sides = moves[2].bool() if flips else torch.zeros(images, dtype=torch.bool)
        boxes = turned = mixing = None
        if smallest_crop is not None:
            uniforms = uniform(seed, f"boxes {number}", 4, images, TRIES)
            boxes = boxes_from(uniforms, smallest=smallest_crop, oblong=size[1] / size[0])
        if turns:
            turned = (4 * uniform(seed, f"turns {number}", images)).long()
        if mixup or cutmix:
            mixing = Mixing.drawn(seed, number, images, size, mixup=mixup, cutmix=cutmix)
        return cls(moves[0], moves[1], sides, shift, boxes, turned, mixing)

    def seen(self, inputs: Callable[[Tensor, torch.device], Tensor], rows: Rows, device: torch.device) -> Images:
        """Images of these rows as the view has them, mixed with their partners' where it mixes.

        Args:
            inputs: Network input of rows on a device.
            rows: Which images.
            device: Where.
        """
        images = self.shown(inputs(rows, device), rows)
        if self.mixing is None:
            return images
        partners = self.mixing.partner[rows]
        return self.mixing.mixed(images, self.shown(inputs(partners, device), partners), rows)

    def labels(self, targets: Int[Tensor, " image"], rows: Rows, classes: int) -> Labels:
        """The labels of these rows: the share of each class where images are mixed."""
        return targets[rows] if self.mixing is None else self.mixing.labels(targets, rows, classes)

    def shown(self, images: Images, rows: Rows) -> Images:
        """Images of these rows, before any mixing."""
        if self.boxes is not None:
            images = resized_crop(images, self.boxes[rows], flipped=self.mirrored[rows])
        elif self.most or self.mirrored.any():
            images = self._moved(images, rows)
        return images if self.turned is None else quarter_turned(images, self.turned[rows])

    def _moved(self, images: Images, rows: Rows) -> Images:
        """What moves in from outside is zero, the mean of network input.

        (The field's code pads pixels before they are normalised, with black.)
        """
        device, (height, width) = images.device, images.shape[2:]
        down, right, mirrored = (part[rows].to(device) for part in (self.down, self.right, self.mirrored))
        padded = F.pad(images, (self.most,) * 4).permute(0, 2, 3, 1)
        ys = down[:, None] + torch.arange(height, device=device)
        xs = torch.arange(width, device=device).expand(len(rows), -1)
        xs = right[:, None] + torch.where(mirrored[:, None], width - 1 - xs, xs)
        sample = torch.arange(len(rows), device=device)[:, None, None]
        return padded[sample, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Mixing:
    """What each image of a set gets of another: an average (Mixup), or a box (CutMix); both by a coin, where asked.

    Mixup: λ x + (1 - λ) x'. CutMix: x with a box of x', of area 1 - λ before it is cut at the borders. Labels are
    λ y + (1 - λ) y', λ what is seen of x, drawn from Beta(α, α).
    Zhang et al., mixup, ICLR 2018, arXiv:1710.09412; Yun et al., CutMix, ICCV 2019, arXiv:1905.04899. Their code draws
    one λ for a batch, and partners inside it; here each image has its own, from the whole set, so that a view comes
    again whatever the batches.
    """

    partner: Int[Tensor, " image"]
    weight: Float[Tensor, " image"]
    """What an image keeps of its pixels outside the box: λ with Mixup, 1 with CutMix."""
    pasted: Int[Tensor, "image 4"]
    """The box in pixels, left, top, right and bottom; nothing with Mixup."""
    share: Float[Tensor, " image"]
    """What it keeps of its label."""

    @classmethod
    def drawn(
        cls, seed: int, number: int, images: int, size: tuple[int, int], *, mixup: float, cutmix: float
    ) -> "Mixing":
        """What a view mixes (see `View.drawn`)."""
        first, down, right, coin = uniform(seed, f"mixing {number}", 4, images)
        pastes = coin < (0.5 if mixup and cutmix else float(cutmix > 0))
        boxes = pasted_from(torch.stack([beta_from(first, cutmix or 1.0), down, right]), size) * pastes[:, None]
        left, top, right_edge, bottom = boxes.unbind(dim=1)
        weight = torch.where(pastes, 1.0, beta_from(first, mixup or 1.0))
        share = weight * (1 - (right_edge - left) * (bottom - top) / math.prod(size))
        return cls(permutation(seed, f"partners {number}", images), weight, boxes, share)

    def mixed(self, images: Images, others: Images, rows: Rows) -> Images:
        """Images of these rows with what comes of their partners."""
        device = images.device
        averaged = torch.lerp(others, images, self.weight[rows].to(images).view(-1, 1, 1, 1))
        return torch.where(inside(self.pasted[rows].to(device), images), others, averaged)

    def labels(self, targets: Int[Tensor, " image"], rows: Rows, classes: int) -> Float[Tensor, "sample classes"]:
        """The share of each class in them."""
        own, others = (F.one_hot(targets[part], classes).float() for part in (rows, self.partner[rows]))
        return torch.lerp(others, own, self.share[rows, None])


def quarter_turned(images: Images, turns: Rows) -> Images:
    """Square images turned counter-clockwise by so many quarters each."""
    turned = images.clone()
    for number in (1, 2, 3):
        which = (turns == number).nonzero().flatten().to(images.device)
        turned[which] = images[which].rot90(number, (2, 3))
    return turned


def order_of(seed: int, epoch: int, images: int) -> Int[Tensor, " image"]:
    """The order in which an epoch goes through the images."""
    return permutation(seed, f"order {epoch}", images)
