"""CPS: CPO with the indices of vertically adjacent non-zeros stored as sets.

Prefer CPO, except if non-zeros cluster in columns. On random maps of density .1 the sets save 1 % of the indices.
Amer, Salamah, Sajedi and Yang, arXiv:2104.08314. The authors' two words {base, mask} cannot be distinguished from two
plain indices. Here a mask is stored as its negative, or (packed) shares one word with its base. Bases are CPO's local
indices, not the absolute indices of the code. No code of the multiplication is public; here it is CPO's, on expanded
sets.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.convolution.columns import Trim, columns_of
from attar.convolution.compiled import shares
from attar.convolution.cpo import CPO, CPOConvolution, Entries, Image, arrays
from attar.convolution.cpo import encode as encode_cpo
from attar.convolution.geometry import Geometry, Weight, not_finite

GROUP = 4
"""Number of rows of a set."""
Groups = Int[Tensor, " group"]


@dataclass(frozen=True)
class CPS:
    """CPO's pointers and values, with fewer words for the indices.

    A column is divided into groups of four aligned rows of the padded map. A group with b non-zeros and first row i0
    has base = i0·Kw + (j - s_lo·Sw) and mask = Σ 2^(i mod 4). It is stored
    - as a set: b plain indices for b ≤ 2, the two words {base, -mask} for b ≥ 3, so that b words become min(b, 2);
    - packed: one word, 16·base + mask.
    """

    order: CPO
    """Channels, pointers and values in CPO's form, without indices; `expand` restores them."""
    indices: Int[Tensor, " word"]
    """Words of the indices, channel after channel."""
    packed: bool

    @classmethod
    def of(cls, encoded: CPO, *, packed: bool = False) -> Self:
        """CPS of an image that is encoded by CPO: its indices are stored as sets."""
        kernel = encoded.geometry.kernel[1]
        _, group, mask, size = _groups(encoded)
        base = encoded.indices[group] - encoded.indices[group] // kernel % GROUP * kernel
        if packed:
            return cls(replace(encoded, indices=encoded.indices[:0]), base * 2**GROUP + mask, packed)
        member = torch.arange(len(encoded.indices)) - group.repeat_interleave(size)
        wide = (size >= 3).repeat_interleave(size)
        word = torch.where(wide & (member == 0), base.repeat_interleave(size), encoded.indices)
        word = torch.where(wide & (member == 1), -mask.repeat_interleave(size), word)
        return cls(replace(encoded, indices=encoded.indices[:0]), word[~wide | (member < 2)], packed)

    def expand(self) -> CPO:
        """The image in CPO's form. Each bit that is set is a non-zero at row i0 + bit."""
        kernel = self.order.geometry.kernel[1]
        if self.packed:
            base, mask = self.indices // 2**GROUP, self.indices % 2**GROUP
        else:
            follows = torch.cat([self.indices[1:], self.indices.new_zeros(min(1, len(self.indices)))])
            at = self.indices >= 0
            base, mask = self.indices[at], torch.where(follows < 0, -follows, 1)[at]
        bits = mask[:, None] >> torch.arange(GROUP) & 1
        return replace(self.order, indices=(base[:, None] + kernel * torch.arange(GROUP))[bits.bool()])

    def decode(self) -> Image:
        """The decoded map."""
        return self.expand().decode()

    def words(self, trim: Trim = "npo") -> int:
        """Number of words |ptr| + |IN| + |DA| of the stored channels; every number is one word."""
        return self.order.words(trim) + len(self.indices)

    def bytes(self, trim: Trim = "npo") -> int:
        """Number of bytes. The sign or the mask takes bits of an index."""
        order, room = self.order, 4 if self.packed else 1
        rows = order.shape[1] + 2 * order.geometry.padding[0]
        index = 2 if rows * order.geometry.kernel[1] < 2 ** (16 - room) else 4
        return order.bytes(trim) + index * len(self.indices)

    @property
    def held(self) -> int:
        """Bytes of the tensors, with 64-bit indices and pointers; multiplying expands the sets into CPO's form."""
        return self.order.held + self.indices.nbytes + self.expand().held

    def multiply(self, weight: Weight) -> Float[Tensor, "filter out_height out_width"]:
        """Expand the sets, then convolve as CPO does."""
        return self.expand().multiply(weight)


def _groups(encoded: CPO) -> tuple[Entries, Groups, Groups, Groups]:
    """The number of each entry's group; then the first entry, the mask and the number of entries of each group."""
    channel, kind, window, row, k = encoded.entries()
    keys = torch.stack([channel, kind, window, k, row // GROUP])
    _, number, size = torch.unique_consecutive(keys, dim=1, return_inverse=True, return_counts=True)
    mask = torch.zeros_like(size).index_add_(0, number, 1 << row % GROUP)
    return number, size.cumsum(0) - size, mask, size


def encode(activation: Tensor, geometry: Geometry, *, packed: bool = False) -> CPS:
    """Encode one image `[channel, height, width]`.

    Raises:
        InputError: A value is NaN or infinite, channels or type are wrong, or the map is smaller than the kernel.
    """
    return CPS.of(encode_cpo(activation, geometry), packed=packed)


@dataclass(frozen=True)
class CPSConvolution(CPOConvolution):
    """CPS for all filters."""

    packed: bool = False

    name: ClassVar[str] = "cps"

    @classmethod
    def prepare(
        cls,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        *,
        backend: str = "auto",
        trim: Trim = "npo",
        packed: bool = False,
    ) -> Self:
        """Order the weights with the filters last."""
        return replace(super().prepare(weight, bias, geometry, backend=backend, trim=trim), packed=packed)

    def _multiplied(self, image: Image) -> Float[Tensor, "filter out_height out_width"]:
        return self._encoded(image).multiply(self.weight)

    def _add(self, image: Image, product: Float[Tensor, "row column filter"], loops: Any) -> None:
        place, columns = self.geometry, columns_of(image.shape[2], self.geometry)
        room = arrays(image, columns.bounds.shape)
        down, kernel = place.padding[0], place.kernel[1]
        if not loops.encode_cps(image.numpy(), *columns.arrays, down, kernel, self.packed, *room):
            raise not_finite()
        steps = (*place.stride, self.packed, shares(place.filters))
        loops.multiply_cps(*room, self.kernel.numpy(), product.numpy(), *steps)

    def _encoded(self, image: Image) -> CPS:
        return encode(image, self.geometry, packed=self.packed)
