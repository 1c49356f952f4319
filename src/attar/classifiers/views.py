"""Augmented views that can be repeated: the number of a view fixes each image's shift or crop, flip, turn and partner.

So the teacher's outputs for a view can be stored, and read when a student sees the same view.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.seeds import permutation, uniform
from attar.core.sending import sent
from attar.images.views.crops import TRIES, boxes_from, resized_crop
from attar.images.views.epochs import beta_from, inside, pasted_from

Images = Float[Tensor, "sample channel height width"]
Rows = Int[Tensor, " sample"]
Labels = Int[Tensor, " sample"] | Float[Tensor, "sample classes"]
"""Classes, or for mixed images the share of each class."""


@dataclass(frozen=True)
class View:
    """The augmentation of each image of a set: shift or crop, flip, turn, and mixing with another image."""

    down: Int[Tensor, " image"]
    right: Int[Tensor, " image"]
    mirrored: Bool[Tensor, " image"]
    most: int
    """The largest shift in either direction, in pixels."""
    boxes: Float[Tensor, "image 4"] | None = None
    """Crops, as shares of the sides, which are scaled to the size of the image. They replace shifts."""
    turned: Int[Tensor, " image"] | None = None
    """Number of quarter turns."""
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
        """The view with this number. It is the same each time.

        Args:
            seed: Seed of all views.
            number: Number of the view.
            images: Number of images.
            shift: Shifts are uniform in ±`shift` pixels.
            flips: Whether images are mirrored at random.
            smallest_crop: Smallest share of the area in a random resized crop (of aspects from 3/4 to 4/3). Default: no
                crops.
            turns: Whether images are rotated by random quarter turns.
            mixup: α of Mixup; 0 turns it off.
            cutmix: α of CutMix; 0 turns it off.
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
        """The images of these rows in this view, mixed with their partners' if the view mixes.

        Args:
            inputs: A function that gives the network input of rows on a device.
            rows: Numbers of the images.
            device: The device.
        """
        images = self.shown(inputs(rows, device), rows)
        if self.mixing is None:
            return images
        partners = self.mixing.partner[rows]
        return self.mixing.mixed(images, self.shown(inputs(partners, device), partners), rows)

    def labels(self, targets: Int[Tensor, " image"], rows: Rows, classes: int) -> Labels:
        """The labels of these rows. If images are mixed, the share of each class."""
        return targets[rows] if self.mixing is None else self.mixing.labels(targets, rows, classes)

    def shown(self, images: Images, rows: Rows) -> Images:
        """The images of these rows before any mixing."""
        moves = self.down[rows], self.right[rows], self.mirrored[rows]
        boxes = None if self.boxes is None else self.boxes[rows]
        (down, right, mirrored), boxes = sent((moves, boxes), images.device)
        if boxes is not None:
            images = resized_crop(images, boxes, flipped=mirrored)
        elif self.most or self.mirrored.any():
            images = self._moved(images, down, right, mirrored)
        return images if self.turned is None else quarter_turned(images, self.turned[rows])

    def _moved(self, images: Images, down: Rows, right: Rows, mirrored: Bool[Tensor, " sample"]) -> Images:
        """Shift and mirror images. Pixels from outside are zero, the mean of network input.

        (The field's code pads pixels with black before they are normalised.)
        """
        device, (height, width) = images.device, images.shape[2:]
        padded = F.pad(images, (self.most,) * 4).permute(0, 2, 3, 1)
        ys = down[:, None] + torch.arange(height, device=device)
        xs = torch.arange(width, device=device).expand(len(images), -1)
        xs = right[:, None] + torch.where(mirrored[:, None], width - 1 - xs, xs)
        sample = torch.arange(len(images), device=device)[:, None, None]
        return padded[sample, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Mixing:
    """Mixing of each image with another: an average (Mixup) or a box (CutMix). If both are on, one is drawn at random.

    Mixup is λ x + (1 - λ) x'. CutMix is x with a box of x', of area 1 - λ before it is cut at the borders. Labels are
    λ y + (1 - λ) y', where λ is the visible share of x. λ is drawn from Beta(α, α).
    Zhang et al., mixup, ICLR 2018, arXiv:1710.09412; Yun et al., CutMix, ICCV 2019, arXiv:1905.04899. Their code draws
    one
    λ for a batch, and partners from the batch. Here each image has its own λ and a partner from the whole set, so that
    a
    view can be repeated with any batches.
    """

    partner: Int[Tensor, " image"]
    weight: Float[Tensor, " image"]
    """Weight of an image's pixels outside the box: λ with Mixup, 1 with CutMix."""
    pasted: Int[Tensor, "image 4"]
    """The box in pixels: left, top, right and bottom. It is empty with Mixup."""
    share: Float[Tensor, " image"]
    """Weight of an image's own label."""

    @classmethod
    def drawn(
        cls, seed: int, number: int, images: int, size: tuple[int, int], *, mixup: float, cutmix: float
    ) -> "Mixing":
        """The mixing of a view (see `View.drawn`)."""
        first, down, right, coin = uniform(seed, f"mixing {number}", 4, images)
        pastes = coin < (0.5 if mixup and cutmix else float(cutmix > 0))
        boxes = pasted_from(torch.stack([beta_from(first, cutmix or 1.0), down, right]), size) * pastes[:, None]
        left, top, right_edge, bottom = boxes.unbind(dim=1)
        weight = torch.where(pastes, 1.0, beta_from(first, mixup or 1.0))
        share = weight * (1 - (right_edge - left) * (bottom - top) / math.prod(size))
        return cls(permutation(seed, f"partners {number}", images), weight, boxes, share)

    def mixed(self, images: Images, others: Images, rows: Rows) -> Images:
        """Mix the images of these rows with the images of their partners."""
        weight, pasted = sent((self.weight[rows], self.pasted[rows]), images.device)
        averaged = torch.lerp(others, images, weight.to(images).view(-1, 1, 1, 1))
        return torch.where(inside(pasted, images), others, averaged)

    def labels(self, targets: Int[Tensor, " image"], rows: Rows, classes: int) -> Float[Tensor, "sample classes"]:
        """The share of each class in the labels of these rows."""
        own, others = (F.one_hot(targets[part], classes).float() for part in (rows, self.partner[rows]))
        return torch.lerp(others, own, self.share[rows, None])


def quarter_turned(images: Images, turns: Rows) -> Images:
    """Rotate each square image counter-clockwise by its number of quarter turns."""
    turned = images.clone()
    for number in (1, 2, 3):
        which = (turns == number).nonzero().flatten().to(images.device)
        turned[which] = images[which].rot90(number, (2, 3))
    return turned


def order_of(seed: int, epoch: int, images: int) -> Int[Tensor, " image"]:
    """The order of the images in an epoch."""
    return permutation(seed, f"order {epoch}", images)
