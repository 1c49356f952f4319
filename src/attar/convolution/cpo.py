"""CPO: store every non-zero of a map once, grouped by the number of windows side by side that share its column.

Try it if activations are sparse (a density of a tenth or less) and maps are small. It stores several times less than a
lowered matrix. `Direct` is faster and a bitmask is smaller; every table lists both beside it.
Amer, Salamah, Sajedi and Yang, High Performance Convolution Using Sparsity and Patterns for Inference in Deep
Convolutional Neural Networks, arXiv:2104.08314. The encoding follows the authors' code, extended to any stride. One
thing is ours: the pointers of a channel count through all types. In the code they start again at each type.
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
    """One encoded image. Channels without a non-zero are not stored.

    IN = i·Kw + (j - s_lo·Sw) and DA = X[i, j]. Columns are in the order of `Columns`. Within a column the rows i of the
    padded map go from top to bottom. ptr[t, s] and ptr[t, s + 1] bound the entries of type t with leftmost window s.
    """

    channels: Int[Tensor, " kept"]
    """Numbers of the channels that are stored."""
    pointers: Int[Tensor, "kept type window_and_one"]
    """Pointers ptr of each stored channel, counted from its own first entry."""
    indices: Int[Tensor, " index"]
    """Indices IN, channel after channel."""
    values: Float[Tensor, " entry"]
    """Values DA, channel after channel."""
    shape: tuple[int, int, int]
    """Channels, height and width of the map."""
    geometry: Geometry

    def decode(self) -> Image:
        """The decoded map. Columns in no window are lost."""
        channel, _, window, row, k = self.entries()
        (down, right), step = self.geometry.padding, self.geometry.stride[1]
        out = torch.zeros(self.shape, dtype=self.values.dtype)
        out[channel, row - down, window * step + k - right] = self.values
        return out

    def entries(self) -> tuple[Entries, Entries, Entries, Entries, Entries]:
        """Channel, type, leftmost window, row of the padded map, and kernel column in that window, for every entry."""
        kept, types, slots = self.pointers.shape
        counts = self.pointers.diff(dim=2).flatten()
        place = torch.arange(kept * types * (slots - 1)).repeat_interleave(counts)
        channel = self.channels[place // (types * (slots - 1))]
        kernel = self.geometry.kernel[1]
        kind, window = place // (slots - 1) % types, place % (slots - 1)
        return channel, kind, window, self.indices // kernel, self.indices % kernel

    def words(self, trim: Trim = "npo") -> int:
        """Number of words |ptr| + |IN| + |DA| of the stored channels; every number is one word."""
        return self._pointer_words(trim) + len(self.indices) + len(self.values)

    def bytes(self, trim: Trim = "npo") -> int:
        """Number of bytes. A value takes 4; indices and pointers take 2 if they fit, otherwise 4."""
        index = index_bytes(self.shape[1], self.geometry)
        return index * (self._pointer_words(trim) + len(self.indices)) + 4 * len(self.values)

    @property
    def held(self) -> int:
        """Bytes of the tensors, with 64-bit indices and pointers."""
        return sum(tensor.nbytes for tensor in (self.channels, self.pointers, self.indices, self.values))

    def _pointer_words(self, trim: Trim) -> int:
        return len(self.channels) * pointer_words(self.shape[2], self.geometry, trim)

    def multiply(self, weight: Weight) -> Float[Tensor, "filter out_height out_width"]:
        """Convolve one image with all filters.

        O[y, s + δ] += v K[l, k - δ·Sw] for δ = 0..t and every l with (i - l) divisible by Sh and y in the map.
        """
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
        InputError: A value is NaN or infinite, channels or type are wrong, or the map is smaller than the kernel.
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
    """Bytes of an index: 2 if every index of a channel fits in 16 bits, otherwise 4."""
    return 2 if (height + 2 * geometry.padding[0]) * geometry.kernel[1] < 2**16 else 4


@dataclass(frozen=True)
class CPOConvolution(Compiled):
    """CPO for all filters. The innermost loop runs over filters; weights `[C, Kh, Kw, Co]`, output `[Oh, Ow, Co]`."""

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
        """Order the weights with the filters last."""
        check_weight(weight, bias, geometry)
        kernel = weight.detach().permute(1, 2, 3, 0).contiguous()
        bias = None if bias is None else bias.detach()
        return cls(weight.detach(), kernel, bias, geometry, backend_of(backend), trim)

    def run(self, activation: Maps) -> Outputs:
        """Encode and multiply, image by image. The output is channels last in memory."""
        out = filled_output(self.geometry, activation, self.bias)
        for image, product in zip(activation.contiguous(), out, strict=True):
            if self.backend.loops is None:
                product += self._multiplied(image).permute(1, 2, 0)
            else:
                self._add(image, product, self.backend.loops)
        return out.permute(0, 3, 1, 2)

    def _multiplied(self, image: Image) -> Float[Tensor, "filter out_height out_width"]:
        """The convolution of one image in plain PyTorch."""
        product: Tensor = self._encoded(image).multiply(self.weight)
        return product

    def _add(self, image: Image, product: Float[Tensor, "row column filter"], loops: Any) -> None:
        place, columns = self.geometry, columns_of(image.shape[2], self.geometry)
        room = arrays(image, columns.bounds.shape)
        if not loops.encode_cpo(image.numpy(), *columns.arrays, place.padding[0], place.kernel[1], *room):
            raise not_finite()
        loops.multiply_cpo(*room, self.kernel.numpy(), product.numpy(), *place.stride, shares(place.filters))

    def bytes(self, activation: Tensor) -> int:
        """Bytes of the arrays for one image. Images are encoded one by one, and dense channels would fit as well."""
        if not len(activation):
            return 0
        if self.backend.loops is not None:
            bounds = columns_of(activation.shape[3], self.geometry).bounds.shape
            return sum(array.nbytes for array in arrays(activation[0], bounds))
        return max(self._encoded(image).held for image in activation)

    def counted_bytes(self, activation: Tensor) -> int:
        """Bytes of the encoded images, each as short as it can be stored (see `CPO.bytes`)."""
        return sum(self._encoded(image).bytes(self.trim) for image in activation)

    def _encoded(self, image: Image) -> Any:
        return encode(image, self.geometry)


def filled_output(geometry: Geometry, activation: Maps, bias: Bias | None) -> Float[Tensor, "image row column filter"]:
    """Outputs filled with the bias, or with zeros if there is none."""
    down, right = geometry.output(*activation.shape[2:])
    out = activation.new_empty(len(activation), down, right, geometry.filters)
    return out.zero_() if bias is None else out.copy_(bias)


def arrays(image: Image, bounds: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Uninitialised arrays for ptr, IN and DA, large enough for dense channels. Only the non-zeros' part is used."""
    channels, height, width = image.shape
    most = height * width + 1
    pointers = torch.empty(channels, *bounds, dtype=torch.int32)
    return (
        pointers.numpy(),
        torch.empty(channels, most, dtype=torch.int32).numpy(),
        image.new_empty(channels, most).numpy(),
    )
