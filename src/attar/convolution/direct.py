"""Direct: our own sparse convolution, which keeps output pixels in registers while it reads the non-zeros of a row.

This is the sparse method to use. It has no lowered matrix. It writes an output pixel once for each kernel row and slab
of channels. It needs one fused multiply-add for every non-zero in a window. `sparse.cpp` explains the algorithm.
Without a C++ compiler it runs on Numba, and without Numba on plain PyTorch, with the same results but more slowly.
"""

import threading
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from attar.convolution import native
from attar.convolution.compiled import Backend, backend_of
from attar.convolution.cpo import filled_output
from attar.convolution.geometry import Geometry, Maps, Outputs, Weight, check_finite, not_finite
from attar.convolution.interface import Compiled, check_weight
from attar.convolution.storage import Bitmask
from attar.core.errors import InputError, unknown

MOST_VECTORS = 8
"""Largest number of registers of filters for one output pixel."""
WEIGHT_CACHE = 48 * 2**10
"""Bytes of weights of one kernel row and one slab of channels; they should stay in the first-level cache."""
OUTPUT_CACHE = 128 * 2**10
"""Bytes of output that should stay in the second-level cache."""
ROOM = 2**24
"""Bytes for packed values and their places. If they need more, images are convolved a few at a time."""
FARTHEST = 2**31 - 1
"""Largest place that 32 bits can hold."""


@dataclass(frozen=True)
class Direct(Compiled):
    """Convolution of a sparse activation with a dense kernel, for any two-dimensional size, stride and padding."""

    weight: Weight
    packed: Tensor
    """Weights. C++: `[block, slab, row, column, channel of slab, filter of block]`; others: `[C, Kh, Kw, Co]`."""
    bias: Float[Tensor, " padded_filter"] | None
    """Bias. With C++ it has a value for each filter of every block, including the filters that fill the last block."""
    geometry: Geometry
    backend: Backend
    slab: int = 0
    """Number of channels of a slab."""
    vectors: int = 0
    """Number of registers of an output pixel."""

    name: ClassVar[str] = "direct"

    @classmethod
    def prepare(cls, weight: Tensor, bias: Tensor | None, geometry: Geometry, *, backend: str = "auto") -> Self:
        """Order the weights as the kernel reads them.

        Args:
            weight: `[filter, channel, kernel height, kernel width]`.
            bias: `[filter]`, or None.
            geometry: Geometry of the convolution.
            backend: native (compiled C++), numba, torch, or auto for the first of them that is available.

        Raises:
            InputError: The weight does not fit the geometry, or the backend is not available.
        """
        check_weight(weight, bias, geometry)
        weight, bias = weight.detach(), None if bias is None else bias.detach()
        chosen = _backend(backend)
        if chosen.name != "native":
            return cls(weight, weight.permute(1, 2, 3, 0).contiguous(), bias, geometry, chosen)
        lanes = chosen.loops.lanes()
        vectors = _vectors(geometry.filters, lanes)
        slab = _slab(geometry, 4 * vectors * lanes)
        block = vectors * lanes
        slabs, blocks = -(-geometry.channels // slab), -(-geometry.filters // block)
        packed = weight.new_zeros(*geometry.kernel, slabs * slab, blocks * block)
        packed[:, :, : geometry.channels, : geometry.filters] = weight.permute(2, 3, 1, 0)
        packed = packed.unflatten(3, (blocks, block)).unflatten(2, (slabs, slab)).permute(4, 2, 0, 1, 3, 5).contiguous()
        padded = weight.new_zeros(blocks * block)
        if bias is not None:
            padded[: geometry.filters] = bias
        return cls(weight, packed, padded, geometry, chosen, slab, vectors)

    def run(self, activation: Maps) -> Outputs:
        """Pack and multiply. The output is channels last in memory."""
        if self.backend.name == "native":
            return self._native(activation)
        out = filled_output(self.geometry, activation, self.bias)
        for image, product in zip(activation, out, strict=True):
            if self.backend.name == "numba":
                self._numba(image, product)
            else:
                self._torch(image, product)
        return out.permute(0, 3, 1, 2)

    def _native(self, activation: Maps) -> Outputs:
        place = self.geometry
        images, channels, height, width = activation.shape
        activation = activation.contiguous(memory_format=torch.channels_last)
        down, right = place.output(height, width)
        out = activation.new_empty(images, down, right, place.filters)
        if width * self.packed.shape[4] * self.packed.shape[5] * 4 > FARTHEST:
            raise InputError(f"the activation is {width} pixels wide, more than the kernel can index. Divide it.")
        slabs = self.packed.shape[1]
        cells, at_once = self._rooms(activation)
        scratch = _scratch(self.bytes(activation))
        threads = torch.get_num_threads()
        for first in range(0, images, at_once):
            count = min(at_once, images - first)
            shape = native.Shape(
                *(count, channels, height, width, place.filters, down, right),
                *(*place.kernel, *place.stride, *place.padding),
                *(self.slab, slabs, self.vectors, len(self.packed)),
                _tile(count * down, 4 * right * self.packed.shape[5], len(self.packed), threads),
                threads,
            )
            begin = (activation.data_ptr() + 4 * first * channels * height * width, self.packed.data_ptr())
            into = out.data_ptr() + 4 * first * down * right * place.filters
            room = (scratch, scratch + 4 * count * cells, scratch + 8 * count * cells)
            assert self.bias is not None
            if self.backend.loops.convolve(shape, *begin, self.bias.data_ptr(), into, *room):
                raise not_finite()
        return out.permute(0, 3, 1, 2)

    def _numba(self, image: Float[Tensor, "channel height width"], product: Tensor) -> None:
        channels, height, width = image.shape
        starts = torch.empty(height, width + 1, dtype=torch.int32)
        places = torch.empty(height, width * channels + 1, dtype=torch.int32)
        packed = (starts.numpy(), places.numpy(), image.new_empty(places.shape).numpy())
        if not self.backend.loops.pack_rows(image.permute(1, 2, 0).contiguous().numpy(), *packed):
            raise not_finite()
        steps = (*self.geometry.stride, *self.geometry.padding)
        self.backend.loops.multiply_rows(*packed, self.packed.numpy(), product.numpy(), *steps)

    def _torch(self, image: Float[Tensor, "channel height width"], product: Tensor) -> None:
        """Convolve by the definition: O[y, x] += v K[l, k] for all y·Sh + l = i and x·Sw + k = j."""
        check_finite(image)
        (step_down, step_right), (pad_down, pad_right) = self.geometry.stride, self.geometry.padding
        down, right, filters = product.shape
        c, i, j = image.nonzero(as_tuple=True)
        value, i, j = image[c, i, j], i + pad_down, j + pad_right
        flat = product.view(-1, filters)
        for l in range(self.geometry.kernel[0]):  # noqa: E741
            for k in range(self.geometry.kernel[1]):
                y, x = (i - l).div(step_down, rounding_mode="floor"), (j - k).div(step_right, rounding_mode="floor")
                at = (
                    (y * step_down == i - l)
                    & (x * step_right == j - k)
                    & (y >= 0)
                    & (x >= 0)
                    & (y < down)
                    & (x < right)
                )
                flat.index_add_(0, y[at] * right + x[at], value[at, None] * self.packed[c[at], l, k])

    def bytes(self, activation: Tensor) -> int:
        """Bytes of the room in which non-zeros are packed; activations without a zero would fit as well.

        With C++ the room is that of several images, and all layers share it.
        """
        images, channels, height, width = activation.shape
        if self.backend.name == "native":
            cells, at_once = self._rooms(activation)
            edges = width + 2 * self.geometry.padding[1] + 1
            return at_once * 8 * cells + 4 * (at_once * self.packed.shape[1] * height + 1) * edges
        if self.backend.name == "numba":
            return (4 * height * (width + 1) + 8 * height * (width * channels + 1)) * min(images, 1)
        return max((28 * int(image.count_nonzero()) for image in activation), default=0)

    def _rooms(self, activation: Tensor) -> tuple[int, int]:
        """The number of places for the values of an image, and of images that are convolved at once."""
        images, _, height, width = activation.shape
        cells = self.packed.shape[1] * height * (width * self.slab + 16)
        return cells, max(1, min(images, ROOM // (8 * cells)))

    def counted_bytes(self, activation: Tensor) -> int:
        """Bytes of a bitmask and the non-zeros, the smallest simple form in which all images could be stored."""
        return Bitmask.encode(activation).bytes

    def workspace(self, activation: Tensor) -> int:
        """Bytes of the room that packing fills: the value and place of every non-zero, and where each pixel begins."""
        images, channels, height, width = activation.shape
        slabs = -(-channels // self.slab) if self.slab else 1
        edges = width + 2 * self.geometry.padding[1] + 1
        return 8 * int(activation.count_nonzero()) + 4 * images * slabs * height * edges


def _backend(choice: str) -> Backend:
    if choice not in ("auto", "native", "numba", "torch"):
        raise unknown("backend", choice, ("auto", "native", "numba", "torch"))
    if choice in ("numba", "torch"):
        return backend_of(choice)
    built = native.library()
    if built.functions is not None:
        return Backend("native", built.functions)
    if choice == "native":
        raise InputError(f"the kernel in C++ is not available: {built.why}.")
    second = backend_of("auto")
    note = f"{built.why}, so the sparse kernel runs on Numba, at about a third of its speed."
    return Backend(second.name, second.loops, f"{built.why}; {second.note}" if second.note else note)


def _vectors(filters: int, lanes: int) -> int:
    """Number of registers for an output pixel: few stay empty in the last block, and each value serves many filters."""
    needed = -(-filters // lanes)
    cost = {n: -(-needed // n) * n * (1 + 1.5 / n) for n in range(1, min(needed, MOST_VECTORS) + 1)}
    return min(cost, key=lambda n: (cost[n], n))


def _slab(geometry: Geometry, block_bytes: int) -> int:
    """Number of channels of a slab: a multiple of 16 that fits the first-level cache, with slabs of similar size."""
    fitting = max(16, round(WEIGHT_CACHE / (geometry.kernel[1] * block_bytes * 16)) * 16)
    slabs = -(-geometry.channels // fitting)
    return -(-geometry.channels // (16 * slabs)) * 16


def _tile(rows: int, row_bytes: int, blocks: int, threads: int) -> int:
    """Number of output rows of a tile. A tile fits the cache, and each of several threads gets at least two tasks."""
    tiles = max(1, -(-rows * row_bytes // OUTPUT_CACHE))
    if threads > 1:
        tiles = max(tiles, -(-2 * threads // blocks))
    return -(-rows // tiles)


_own = threading.local()


def _scratch(size: int) -> int:
    """Address of scratch memory of this thread. All layers share it, and it only grows."""
    room: Tensor | None = getattr(_own, "room", None)
    if room is None or room.numel() < size:
        _own.room = room = torch.empty(size, dtype=torch.uint8)
    return room.data_ptr()
