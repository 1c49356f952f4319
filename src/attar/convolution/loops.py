"""The inner loops of CPO, CPS and the direct kernel in plain Python, for Numba to compile (`compiled.py`).

Every function is self-contained, because each is compiled separately. `prange` is a plain range until then. Parallel
loops run over independent parts: channels for packing, blocks of filters or rows of output for multiplying.
"""

import numpy as np
from jaxtyping import Float32, Int32, Int64

prange = range

Image = Float32[np.ndarray, "channel height width"]
Order = Int64[np.ndarray, " column"]
Bounds = Int64[np.ndarray, "type window_and_one"]
Pointers = Int32[np.ndarray, "channel type window_and_one"]
Indices = Int32[np.ndarray, "channel place"]
Values = Float32[np.ndarray, "channel place"]
Kernel = Float32[np.ndarray, "channel kernel_height kernel_width filter"]
Output = Float32[np.ndarray, "row column filter"]


def encode_cpo(
    image: Image,
    order: Order,
    local: Order,
    bounds: Bounds,
    pad_down: int,
    kernel_width: int,
    pointers: Pointers,
    indices: Indices,
    values: Values,
) -> bool:
    """Fill the three arrays of every channel. Returns whether all values are finite."""
    channels, height, _ = image.shape
    types, slots = bounds.shape
    strange = np.zeros(channels, dtype=np.uint8)
    for c in prange(channels):
        count = 0
        for t in range(types):
            for s in range(slots - 1):
                pointers[c, t, s] = count
                for rank in range(bounds[t, s], bounds[t, s + 1]):
                    j, base = order[rank], local[rank]
                    for i in range(height):
                        value = image[c, i, j]
                        indices[c, count] = (i + pad_down) * kernel_width + base
                        values[c, count] = value
                        count += value != 0
                        strange[c] |= value - value != 0
            pointers[c, t, slots - 1] = count
    return not strange.any()


def multiply_cpo(
    pointers: Pointers,
    indices: Indices,
    values: Values,
    kernel: Kernel,
    out: Output,
    stride_down: int,
    stride_right: int,
    parts: int,
) -> None:
    """Add every entry to every output whose window contains it. Loops: entry, then kernel row, then window."""
    channels, types, slots = pointers.shape
    kernel_height, kernel_width, filters = kernel.shape[1:]
    for part in prange(parts):
        first, last = part * filters // parts, (part + 1) * filters // parts
        for c in range(channels):
            if pointers[c, types - 1, slots - 1] == 0:
                continue
            for t in range(types):
                for s in range(slots - 1):
                    for e in range(pointers[c, t, s], pointers[c, t, s + 1]):
                        value = values[c, e]
                        i = indices[c, e] // kernel_width
                        k = indices[c, e] - i * kernel_width
                        for l in range(kernel_height):  # noqa: E741
                            y = (i - l) // stride_down
                            if i < l or y * stride_down != i - l or y >= out.shape[0]:
                                continue
                            for delta in range(t + 1):
                                for o in range(first, last):
                                    out[y, s + delta, o] += value * kernel[c, l, k - delta * stride_right, o]


def encode_cps(
    image: Image,
    order: Order,
    local: Order,
    bounds: Bounds,
    pad_down: int,
    kernel_width: int,
    packed: bool,
    pointers: Pointers,
    indices: Indices,
    values: Values,
) -> bool:
    """Fill the three arrays of every channel, with the indices of four rows at a time as a set.

    `indices` has room for one word per value; the words behind the last set stay unwritten. Returns whether all values
    are finite.
    """
    channels, height, _ = image.shape
    types, slots = bounds.shape
    strange = np.zeros(channels, dtype=np.uint8)
    for c in prange(channels):
        count, word = 0, 0
        for t in range(types):
            for s in range(slots - 1):
                pointers[c, t, s] = count
                for rank in range(bounds[t, s], bounds[t, s + 1]):
                    j, base = order[rank], local[rank]
                    for top in range(pad_down // 4 * 4, pad_down + height, 4):
                        mask, size, before = 0, 0, word
                        for i in range(max(top, pad_down), min(top + 4, pad_down + height)):
                            value = image[c, i - pad_down, j]
                            strange[c] |= value - value != 0
                            if value != 0:
                                values[c, count] = value
                                if not packed:
                                    indices[c, word] = i * kernel_width + base
                                    word += 1
                                mask |= 1 << (i - top)
                                count += 1
                                size += 1
                        if packed and size > 0:
                            indices[c, word] = ((top * kernel_width + base) << 4) | mask
                            word += 1
                        elif not packed and size >= 3:
                            indices[c, before] = top * kernel_width + base
                            indices[c, before + 1] = -mask
                            word = before + 2
            pointers[c, t, slots - 1] = count
    return not strange.any()


def multiply_cps(
    pointers: Pointers,
    indices: Indices,
    values: Values,
    kernel: Kernel,
    out: Output,
    stride_down: int,
    stride_right: int,
    packed: bool,
    parts: int,
) -> None:
    """Expand each set of rows and multiply as CPO. Up to four rows share the work for their column."""
    channels, types, slots = pointers.shape
    kernel_height, kernel_width, filters = kernel.shape[1:]
    for part in prange(parts):
        first, last = part * filters // parts, (part + 1) * filters // parts
        for c in range(channels):
            total = pointers[c, types - 1, slots - 1]
            word = 0
            for t in range(types):
                for s in range(slots - 1):
                    e = pointers[c, t, s]
                    while e < pointers[c, t, s + 1]:
                        index, mask = indices[c, word], 1
                        word += 1
                        if packed:
                            index, mask = index >> 4, index & 15
                        elif e + 2 < total and indices[c, word] < 0:
                            mask = -indices[c, word]
                            word += 1
                        i = index // kernel_width
                        k = index - i * kernel_width
                        while mask > 0:
                            if mask & 1:
                                value = values[c, e]
                                e += 1
                                for l in range(kernel_height):  # noqa: E741
                                    y = (i - l) // stride_down
                                    if i < l or y * stride_down != i - l or y >= out.shape[0]:
                                        continue
                                    for delta in range(t + 1):
                                        for o in range(first, last):
                                            out[y, s + delta, o] += value * kernel[c, l, k - delta * stride_right, o]
                            mask >>= 1
                            i += 1


def pack_rows(
    image: Float32[np.ndarray, "height width channel"],
    starts: Int32[np.ndarray, "height width_and_one"],
    places: Int32[np.ndarray, "height place"],
    values: Float32[np.ndarray, "height place"],
) -> bool:
    """Store the non-zeros of every row one after the other, with their channels. Returns whether all are finite."""
    height, width, channels = image.shape
    strange = np.zeros(height, dtype=np.uint8)
    for i in prange(height):
        count = 0
        for j in range(width):
            starts[i, j] = count
            for c in range(channels):
                value = image[i, j, c]
                places[i, count] = c
                values[i, count] = value
                count += value != 0
                strange[i] |= value - value != 0
        starts[i, width] = count
    return not strange.any()


def multiply_rows(
    starts: Int32[np.ndarray, "height width_and_one"],
    places: Int32[np.ndarray, "height place"],
    values: Float32[np.ndarray, "height place"],
    kernel: Kernel,
    out: Output,
    stride_down: int,
    stride_right: int,
    pad_down: int,
    pad_right: int,
) -> None:
    """Add to each output row every non-zero of its input rows. One row at a time stays in cache."""
    height, width = starts.shape[0], starts.shape[1] - 1
    kernel_height, kernel_width, filters = kernel.shape[1:]
    for y in prange(out.shape[0]):
        for l in range(kernel_height):  # noqa: E741
            i = y * stride_down - pad_down + l
            if i < 0 or i >= height:
                continue
            for j in range(width):
                for e in range(starts[i, j], starts[i, j + 1]):
                    c, value = places[i, e], values[i, e]
                    for k in range(kernel_width):
                        x = (j + pad_right - k) // stride_right
                        if j + pad_right < k or x * stride_right != j + pad_right - k or x >= out.shape[1]:
                            continue
                        for o in range(filters):
                            out[y, x, o] += value * kernel[c, l, k, o]
