"""CPO: every non-zero of a map once, grouped by how many of the windows side by side share its column.

Worth trying where activations are sparse (a tenth or less) and maps small; it stores several times less than a lowered
matrix. `Direct` is faster, and a bitmask smaller: both stand beside it in every table.
Amer, Salamah, Sajedi and Yang, High Performance Convolution Using Sparsity and Patterns for Inference in Deep
Convolutional Neural Networks, arXiv:2104.08314. The encoding follows the authors' code, for any stride; that the
pointers of a channel run on through all types, where the code starts again at each, is ours.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.convolution.columns import Trim, columns_of, pointer_words
from attar.convolution.compiled import Backend, backend_of, shares
from attar.convolution.geometry import Bias, Geometry, Maps, Outputs, Weight, check_finite, not_finite
from attar.convolution.interface import Compiled, check_weight

Image = Float[Tensor, "channel height width"]
Entries = Int[Tensor, " entry"]


@dataclass(frozen=True)
class CPO:
    """One image. Channels without a non-zero are skipped altogether.

    IN = i·Kw + (j - s_lo·Sw) and DA = X[i, j], rows i of the padded map from top to bottom within a column, columns in
    the order of `Columns`; ptr[t, s] and ptr[t, s + 1] bound the entries of type t with leftmost window s.
    """

    channels: Int[Tensor, " kept"]
    """Which channels are kept."""
    pointers: Int[Tensor, "kept type window_and_one"]
    """ptr of each kept channel, counted from its own first entry."""
    indices: Int[Tensor, " index"]
    """IN, channel after channel."""
    values: Float[Tensor, " entry"]
    """DA."""
    shape: tuple[int, int, int]
    """Channels, height and width of the map."""
    geometry: Geometry

    def decode(self) -> Image:
        """The map again; columns that no window sees are lost."""
        channel, _, window, row, k = self.entries()
        (down, right), step = self.geometry.padding, self.geometry.stride[1]
        out = torch.zeros(self.shape, dtype=self.values.dtype)
        out[channel, row - down, window * step + k - right] = self.values
        return out

    def entries(self) -> tuple[Entries, Entries, Entries, Entries, Entries]:
        """Channel, type, leftmost window, row of the padded map, and kernel column in that window, of every entry."""
        kept, types, slots = self.pointers.shape
        counts = self.pointers.diff(dim=2).flatten()
        place = torch.arange(kept * types * (slots - 1)).repeat_interleave(counts)
        channel = self.channels[place // (types * (slots - 1))]
        kernel = self.geometry.kernel[1]
        kind, window = place // (slots - 1) % types, place % (slots - 1)
        return channel, kind, window, self.indices // kernel, self.indices % kernel

    def words(self, trim: Trim = "npo") -> int:
        """|ptr| + |IN| + |DA| over the kept channels, every number one word."""
        return self._pointer_words(trim) + len(self.indices) + len(self.values)

    def bytes(self, trim: Trim = "npo") -> int:
        """The same in bytes: values of 4, indices and pointers of 2 where they fit."""
        index = index_bytes(self.shape[1], self.geometry)
        return index * (self._pointer_words(trim) + len(self.indices)) + 4 * len(self.values)

    def _pointer_words(self, trim: Trim) -> int:
        return len(self.channels) * pointer_words(self.shape[2], self.geometry, trim)

    def multiply(self, weight: Weight) -> Float[Tensor, "filter out_height out_width"]:
        """O[y, s + δ] += v K[l, k - δ·Sw] for δ = 0..t and every l with (i - l) divisible by Sh and y in the map."""
        down, right = self.geometry.output(*self.shape[1:])
        step_down, step_right = self.geometry.stride
        channel, kind, window, row, k = self.entries()
        out = self.values.new_zeros(down * right, len(weight))
        for l in range(weight.shape[2]):  # noqa: E741
            y = torch.div(row - l, step_down, rounding_mode="floor")
            there = ((row - l) % step_down == 0) & (y >= 0) & (y < down)
            for delta in range(self.pointers.shape[1]):
                at = there & (kind >= delta)
                kernel = weight[:, channel[at], l, k[at] - delta * step_right].T
                out.index_add_(0, y[at] * right + window[at] + delta, self.values[at, None] * kernel)
        return out.T.unflatten(1, (down, right))


def encode(activation: Tensor, geometry: Geometry) -> CPO:
    """Encode one image `[channel, height, width]`.

    Raises:
        InputError: NaN or infinities, other channels or type, a map smaller than the kernel.
    """
    geometry.check(activation[None])
    check_finite(activation)
    columns = columns_of(activation.shape[2], geometry)
    lines = activation[:, :, columns.order].transpose(1, 2)
    channel, rank, row = lines.nonzero(as_tuple=True)
    channels = channel.unique()
    size = columns.types * columns.windows
    slot = torch.searchsorted(channels, channel) * size + columns.slot[rank]
    counts = torch.bincount(slot, minlength=len(channels) * size).view(len(channels), columns.types, columns.windows)
    ends = counts.flatten(1).cumsum(1).view_as(counts)
    pointers = torch.cat([(ends - counts)[:, :, :1], ends], dim=2)
    indices = (row + geometry.padding[0]) * geometry.kernel[1] + columns.local[rank]
    shape = (activation.shape[0], activation.shape[1], activation.shape[2])
    return CPO(channels, pointers, indices, lines[channel, rank, row], shape, geometry)


def index_bytes(height: int, geometry: Geometry) -> int:
    """2 where every index of a channel fits in 16 bits; else 4."""
    return 2 if (height + 2 * geometry.padding[0]) * geometry.kernel[1] < 2**16 else 4


@dataclass(frozen=True)
class CPOConvolution(Compiled):
    """CPO for all filters: the innermost loop runs over them, weights `[C, Kh, Kw, Co]`, output `[Oh, Ow, Co]`."""

    weight: Weight
    kernel: Float[Tensor, "channel kernel_height kernel_width filter"]
    bias: Bias | None
    geometry: Geometry
    backend: Backend
    trim: Trim = "npo"

    name: ClassVar[str] = "cpo"

    @classmethod
    def prepare(
        cls, weight: Tensor, bias: Tensor | None, geometry: Geometry, *, backend: str = "auto", trim: Trim = "npo"
    ) -> Self:
        """Put the filters last."""
        check_weight(weight, bias, geometry)
        kernel = weight.detach().permute(1, 2, 3, 0).contiguous()
        bias = None if bias is None else bias.detach()
        return cls(weight.detach(), kernel, bias, geometry, backend_of(backend), trim)

    def run(self, activation: Maps) -> Outputs:
        """Encode and multiply, image by image; the output lies channels last."""
        out = filled_output(self.geometry, activation, self.bias)
        for image, product in zip(activation.contiguous(), out, strict=True):
            if self.backend.loops is None:
                product += self._multiplied(image).permute(1, 2, 0)
            else:
                self._add(image, product, self.backend.loops)
        return out.permute(0, 3, 1, 2)

    def _multiplied(self, image: Image) -> Float[Tensor, "filter out_height out_width"]:
        """The convolution of one image in plain PyTorch."""
        return encode(image, self.geometry).multiply(self.weight)

    def _add(self, image: Image, product: Float[Tensor, "row column filter"], loops: Any) -> None:
        place, columns = self.geometry, columns_of(image.shape[2], self.geometry)
        room = arrays(image, columns.bounds.shape)
        if not loops.encode_cpo(image.numpy(), *columns.arrays, place.padding[0], place.kernel[1], *room):
            raise not_finite()
        loops.multiply_cpo(*room, self.kernel.numpy(), product.numpy(), *place.stride, shares(place.filters))

    def bytes(self, activation: Tensor) -> int:
        """Of the encoded images."""
        return sum(encode(image, self.geometry).bytes(self.trim) for image in activation)


def filled_output(geometry: Geometry, activation: Maps, bias: Bias | None) -> Float[Tensor, "image row column filter"]:
    """Outputs that hold the bias everywhere."""
    down, right = geometry.output(*activation.shape[2:])
    out = activation.new_empty(len(activation), down, right, geometry.filters)
    return out.zero_() if bias is None else out.copy_(bias)


def arrays(image: Image, bounds: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Room for ptr, IN and DA of every channel, were it dense; as much of it is used as there are non-zeros."""
    channels, height, width = image.shape
    most = height * width + 1
    pointers = torch.empty(channels, *bounds, dtype=torch.int32)
    return (
        pointers.numpy(),
        torch.empty(channels, most, dtype=torch.int32).numpy(),
        image.new_empty(channels, most).numpy(),
    )
