"""The convolutions of a step and nothing else: what the step would take if all between them were free.

Shapes, chunks, precision, compiler and memory layout are the step's. Every layer has operands of its own, so that
nothing has to be computed between the layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import harness
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.core.runtime import Runtime


@dataclass(frozen=True)
class Operands:
    """What one layer's convolutions work on. The last three have the shapes of output, weight and input."""

    images: Tensor
    weight: Tensor
    bias: Tensor
    slope: Tensor
    direction: Tensor
    pull: Tensor


Pass = Callable[[Sequence[Operands]], list[Tensor]]


def forward(layers: Sequence[Operands]) -> list[Tensor]:
    """Every layer's output."""
    return [_convolved(one.images, one.weight, one.bias) for one in layers]


def to_images(layers: Sequence[Operands]) -> list[Tensor]:
    """Forward, and back to the images: the parameters are fixed, as in distribution matching."""
    return forward(layers) + [_back(one.slope, one.images, one.weight, images=True)[0] for one in layers]


def to_weights(layers: Sequence[Operands]) -> list[Tensor]:
    """Forward, and back to the weights, through all layers but the first to their inputs too."""
    found = forward(layers)
    for place, one in enumerate(layers):
        found += _back(one.slope, one.images, one.weight, images=place > 0, weight=True)
    return found


def matched(layers: Sequence[Operands]) -> list[Tensor]:
    """`to_weights`, and the derivative of a function of the weights' gradient in the images, as in DSA's match."""
    return _twice(layers, weight=False)


def pulled(layers: Sequence[Operands]) -> list[Tensor]:
    """As `matched`, and the derivative in the weights, as in a step back through a student's training."""
    return _twice(layers, weight=True)


def _twice(layers: Sequence[Operands], *, weight: bool) -> list[Tensor]:
    """A layer's gradients are bilinear in the output's slope and in the images or the weight."""
    found = to_weights(layers)
    for place, one in enumerate(layers):
        found.append(_convolved(one.images, one.direction, None))  # of the weight's gradient, in the slope
        found += _back(one.slope, one.images, one.direction, images=True)  # and in the images
        if place:
            found.append(_convolved(one.pull, one.weight, None))  # of the images' gradient, in the slope
            if weight:
                found += _back(one.slope, one.pull, one.weight, weight=True)  # and in the weight
        found += _back(found[place], one.images, one.weight, images=True, weight=weight)  # the forward pass
    return found


def _convolved(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(images, weight, bias, padding=1)


def _back(slope: Tensor, images: Tensor, weight: Tensor, /, **wanted: bool) -> list[Tensor]:
    """The gradients that are wanted, of images and of the weight."""
    mask = [wanted.get("images", False), wanted.get("weight", False), False]
    operands = (slope, images.to(slope.dtype), weight.to(slope.dtype))
    found = torch.ops.aten.convolution_backward(*operands, [0], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)
    return [gradient for gradient, asked in zip(found, mask, strict=True) if asked]


def seconds(
    work: Pass, network: nn.Module, counts: Sequence[int], runtime: Runtime, steps: int, *, training: bool
) -> float:
    """Median seconds of a pass over chunks of so many images.

    Args:
        work: One of the passes above.
        network: A ConvNet; its blocks begin with their convolution.
        counts: Images of each chunk.
        runtime: Compiler and precision.
        steps: How often the pass is timed.
        training: Whether the pass has the precision of passes with a gradient.
    """
    dtype = torch.float32 if training else runtime.forward_dtype
    chunks = {count: _flat(operands(network, count, dtype)) for count in set(counts)}
    compiled = runtime.compiled(lambda *flat: work(_grouped(flat)), training=training)

    @torch.no_grad()
    def whole() -> None:
        for count in counts:
            compiled(*chunks[count])

    return float(harness.timed(whole, 2, steps)["seconds"])


def operands(network: Any, count: int, dtype: torch.dtype) -> list[Operands]:
    """Random operands of every layer, in the memory layout that compiled passes choose."""
    found, side = [], harness.SIDE
    for place, block in enumerate(network.blocks):
        layer = block[0]
        weight, bias = layer.weight.detach(), layer.bias.detach()
        inside, outside = (count, layer.in_channels, side, side), (count, layer.out_channels, side, side)
        # Only the first layer sees float32 whatever the precision of the pass.
        images = _random(inside, dtype if place else torch.float32)
        slope, pull = _random(outside, dtype), _random(inside, dtype)
        found.append(Operands(images, weight, bias, slope, torch.randn_like(weight), pull))
        side //= 2
    return found


def _random(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)


def _flat(layers: Sequence[Operands]) -> list[Tensor]:
    return [tensor for one in layers for tensor in vars(one).values()]


def _grouped(flat: Sequence[Tensor]) -> list[Operands]:
    return [Operands(*flat[place : place + 6]) for place in range(0, len(flat), 6)]
