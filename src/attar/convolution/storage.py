"""The words and bytes of a sparse map in several forms: CPO and CPS, the lowered matrices, and the simple rivals.

A compression ratio is the number of words of im2col's matrix, C·Oh·Ow·Kh·Kw, divided by the number of words of a form.
Every number (value, index or pointer) counts as one word of 32 bits, and a 16-bit index as half a word.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attar.convolution import cpo, cps
from attar.convolution.columns import columns_of
from attar.convolution.geometry import Geometry

CHUNK = 2**24
"""Number of values that are packed into bits at a time."""


@dataclass(frozen=True)
class Bitmask:
    """A sparse map as a bit for every value and the non-zeros one after the other."""

    bits: Tensor
    """Bits as bytes, `[byte]`, uint8. The first value is in the lowest bit."""
    values: Float[Tensor, " entry"]
    shape: tuple[int, ...]

    @classmethod
    def encode(cls, activation: Float[Tensor, "..."]) -> Self:
        """Encode a map, or several, in the order of its axes."""
        flat = activation.flatten()
        alive = flat != 0
        return cls(_pack(alive), flat[alive], tuple(activation.shape))

    def decode(self) -> Float[Tensor, "..."]:
        """The decoded map."""
        alive = (self.bits[:, None] >> torch.arange(8) & 1).bool().flatten()[: math.prod(self.shape)]
        out = torch.zeros(math.prod(self.shape), dtype=self.values.dtype)
        out[alive] = self.values
        return out.view(self.shape)

    @property
    def bytes(self) -> int:
        """Number of bytes: four for each non-zero, and an eighth for each value."""
        return 4 * len(self.values) + len(self.bits)


def _pack(alive: Bool[Tensor, " value"]) -> Tensor:
    padded = torch.nn.functional.pad(alive, (0, -len(alive) % 8)).view(-1, 8)
    pieces = (piece.long() << torch.arange(8) for piece in padded.split(CHUNK // 8))
    return torch.cat([piece.sum(dim=1).byte() for piece in pieces]) if len(padded) else padded.new_zeros(0).byte()


def csc16_bytes(activation: Float[Tensor, "channel height width"]) -> int:
    """Bytes of compressed columns with 16-bit row indices and column pointers, for every channel that is not empty."""
    counts = activation.flatten(1).count_nonzero(dim=1)
    return 6 * int(counts.sum()) + 2 * (activation.shape[2] + 1) * int((counts > 0).sum())


def cscc_words(activation: Float[Tensor, "channel height width"], geometry: Geometry) -> int:
    """Words of CSCC, MEC's lowered matrix as compressed rows: 2 Σ_s nnz(strip s) + Ow + 1 per non-empty channel."""
    columns = columns_of(activation.shape[2], geometry)
    times = torch.zeros(activation.shape[2], dtype=torch.long)
    times[columns.order] = columns.slot // columns.windows + 1
    in_column = (activation != 0).sum(dim=1)
    kept = int((in_column.sum(dim=1) > 0).sum())
    return 2 * int((in_column * times).sum()) + kept * (columns.windows + 1)


def im2col_words(activation: Float[Tensor, "channel height width"], geometry: Geometry) -> int:
    """Words of im2col's matrix, C·Oh·Ow·Kh·Kw."""
    down, right = geometry.output(*activation.shape[1:])
    return len(activation) * down * right * geometry.kernel[0] * geometry.kernel[1]


def mec_words(activation: Float[Tensor, "channel height width"], geometry: Geometry) -> int:
    """Words of MEC's matrix, C·Ow·Ih·Kw."""
    channels, height, width = activation.shape
    right = geometry.output(height, width)[1]
    return channels * right * (height + 2 * geometry.padding[0]) * geometry.kernel[1]


def words(activation: Float[Tensor, "channel height width"], geometry: Geometry) -> dict[str, float]:
    """Words of one image in every form: lowered, sparse, and dense."""
    encoded = cpo.encode(activation, geometry)
    return {
        "im2col": im2col_words(activation, geometry),
        "mec": mec_words(activation, geometry),
        "cscc": cscc_words(activation, geometry),
        "cpo": encoded.words("npo"),
        "cpo, all trimmed": encoded.words("all"),
        "cps": cps.CPS.of(encoded).words("npo"),
        "cps, packed": cps.CPS.of(encoded, packed=True).words("npo"),
        "bitmask": Bitmask.encode(activation).bytes / 4,
        "csc, 16 bits": csc16_bytes(activation) / 4,
        "dense": activation.numel(),
    }


def compression_ratios(activation: Float[Tensor, "channel height width"], geometry: Geometry) -> dict[str, float]:
    """The words of im2col's matrix divided by the words of every form; infinite if nothing is stored.

    Args:
        activation: One map.
        geometry: The convolution that reads it.
    """
    sizes = words(activation, geometry)
    return {form: sizes["im2col"] / size if size else math.inf for form, size in sizes.items()}
