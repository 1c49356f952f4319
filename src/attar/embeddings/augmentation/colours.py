"""Changes of colour: brightness, contrast, saturation and hue by torchvision's formulas; grey, solarise, posterize.

The weights of grey are those of ITU-R 601, as in Pillow. torchvision has .2989 for .299, so that its grey is darker by
a ten-thousandth.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.sending import sent
from attar.embeddings.augmentation.shared import Images, PerImage, Rows, grouped, per_image

Grey = Float[Tensor, "batch 1 height width"]
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, by ITU-R 601."""
LEVELS = 255


def grey(images: Images) -> Grey:
    """The brightness of colours; images of one channel or of more than three are averaged over channels."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images.unbind(dim=1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


def dropped(images: Images) -> Images:
    """Images without their colours."""
    return grey(images).expand_as(images)


def brightness(images: Images, factor: PerImage) -> Images:
    """Images times a factor, cut off at 0 and 1."""
    return (images * per_image(factor, images)).clamp(0, 1)


def contrast(images: Images, factor: PerImage) -> Images:
    """The mix f x + (1 - f) g, where g is the mean of the image's grey, cut off at 0 and 1."""
    mean = grey(images).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(images), images, per_image(factor, images)).clamp(0, 1)


def saturation(images: Images, factor: PerImage) -> Images:
    """The mix f x + (1 - f) grey(x), cut off at 0 and 1. Images without three channels stay as they are."""
    if images.shape[1] != 3:
        return images
    return torch.lerp(grey(images).expand_as(images), images, per_image(factor, images)).clamp(0, 1)


def hue(images: Images, turn: PerImage) -> Images:
    """Turn the hue by a share of the circle, with saturation and value as they are.

    A channel is max - (max - min) clip(d - 1, 0, 1), where d is the distance of the turned hue from the channel's own,
    in sixths of the circle. The conversion to hue, saturation and value and back gives the same. Images without three
    channels stay as they are.
    """
    if images.shape[1] != 3:
        return images
    red, green, blue = images.unbind(dim=1)
    high = torch.maximum(torch.maximum(red, green), blue)
    spread = high - torch.minimum(torch.minimum(red, green), blue)
    safe = spread.clamp_min(1e-6)  # without spread there is no hue, and none is needed
    from_green = torch.where(high == green, blue - red + 2 * safe, red - green + 4 * safe)
    sixths = torch.where(high == red, green - blue, from_green) / safe + 6 * turn.to(images).view(-1, 1, 1)
    found = []
    for own in (0, 2, 4):
        away = sixths - own
        away = away - 6 * (away / 6).round()
        found.append(high - spread * (away.abs() - 1).clamp(0, 1))
    return torch.stack(found, dim=1)


CHANGES = (brightness, contrast, saturation, hue)


def jittered(images: Images, order: Int[Tensor, "batch 4"], factors: Float[Tensor, "4 batch"]) -> Images:
    """Brightness, contrast, saturation and hue of each image, in an order of its own.

    Args:
        images: The images.
        order: The numbers of the changes, in this order, in the order in which they are made.
        factors: What each change takes: three factors, and a turn of the hue.
    """
    return jittered_in(images, *sent((turns_of(order), factors), images.device))


def turns_of(order: Int[Tensor, "batch 4"]) -> list[list[Rows]]:
    """The rows that each change takes, for the first, second, third and fourth change of an image."""
    return [grouped(kind, len(CHANGES)) for kind in order.T]


def jittered_in(images: Images, turns: list[list[Rows]], factors: Float[Tensor, "4 batch"]) -> Images:
    """As `jittered`, with the orders as `turns_of` gives them, on the device of the images."""
    for turn in turns:
        found = torch.empty_like(images)
        for number, rows in enumerate(turn):
            if len(rows):
                found.index_copy_(0, rows, CHANGES[number](images[rows], factors[number, rows]))
        images = found
    return images


def drawn_jitter(
    count: int, reach: tuple[float, ...], generator: torch.Generator
) -> tuple[Int[Tensor, "batch 4"], Float[Tensor, "4 batch"]]:
    """Order and factors of `jittered`: factors from max(0, 1 - r) to 1 + r, and a turn from -r to r.

    Args:
        count: The number of images.
        reach: r of brightness, contrast, saturation and hue.
        generator: The generator that draws them.
    """
    order = torch.rand(count, len(CHANGES), generator=generator).argsort(dim=1)
    uniform = torch.rand(len(CHANGES), count, generator=generator)
    low = torch.tensor([*(max(0.0, 1 - r) for r in reach[:3]), -reach[3]])
    high = torch.tensor([*(1 + r for r in reach[:3]), reach[3]])
    return order, low[:, None] + (high - low)[:, None] * uniform


def solarised(images: Images, threshold: PerImage) -> Images:
    """Pixels at or above a threshold are inverted."""
    return torch.where(images >= per_image(threshold, images), 1 - images, images)


def posterized(images: Images, bits: Int[Tensor, " batch"]) -> Images:
    """Only the first bits of each 8-bit pixel. Gradients pass unchanged."""
    step = per_image(2.0 ** (8 - bits), images)
    levels = (images.detach() * LEVELS + 1e-3).floor()  # whole levels, divided by 255, may lie just below
    return passed(images, (levels / step).floor() * step / LEVELS)


def autocontrasted(images: Images) -> Images:
    """Each channel is stretched to the range from 0 to 1. A channel of one value stays as it is."""
    low, high = (extreme(images, dim=(2, 3), keepdim=True) for extreme in (torch.amin, torch.amax))
    flat = high == low
    scale = torch.where(flat, 1.0, 1 / torch.where(flat, 1.0, high - low))
    return ((images - torch.where(flat, 0.0, low)) * scale).clamp(0, 1)


def equalised(images: Images) -> Images:
    """The histogram of each channel is made even, in 256 levels, by Pillow's rule. Gradients pass unchanged.

    Level i becomes ⌊(s/2 + n(<i)) / s⌋, where n(<i) pixels lie below it, and s is a 255th of the number of pixels that
    are not of the brightest level.
    """
    levels = (images.detach() * LEVELS).round().clamp(0, LEVELS).long().flatten(2)
    counts = levels.new_zeros(*levels.shape[:2], LEVELS + 1).scatter_add_(2, levels, torch.ones_like(levels))
    brightest = levels.amax(dim=2, keepdim=True)
    step = (levels.shape[2] - counts.gather(2, brightest)) // LEVELS
    below = counts.cumsum(dim=2) - counts
    table = ((step // 2 + below) // step.clamp_min(1)).clamp_max(LEVELS)
    even = table.gather(2, levels).to(images.dtype) / LEVELS
    return passed(images, torch.where(step > 0, even, images.detach().flatten(2)).view_as(images))


def passed(images: Images, made: Images) -> Images:
    """What was made of images, with a gradient as if nothing were done."""
    return images + (made - images).detach() if images.requires_grad else made
