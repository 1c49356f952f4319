"""ATOM: match the spatial attention, the channel attention and the embeddings of random networks.

Try it in place of DataDAM at few images per class and with batch norm; the cost is the same. With instance norm at one
image per class DM, DataDAM and ATOM are equally good.
Khaki, Sajedi, Wang, Liu, Lawryshyn and Plataniotis, ATOM: Attention Mixer for Efficient Dataset Distillation, CVPR
2024 workshop on dataset distillation, arXiv:2405.01373. The authors have released no code and no sets, so nothing here
could be checked against theirs. What the paper's figure does not show is taken from DataDAM, as noted below.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.settings import Range
from attar.images.condense.datadam import DataDAM, MapNorm, Maps, attention_energy, map_distance, pooled, unit
from attar.images.condense.distribution import ClassMeans, Views, squared_distance

SPATIAL, CHANNEL = (1,), (2, 3)
"""Dimensions over which each kind of attention is pooled: the filters, or the places."""


@dataclass(frozen=True, kw_only=True)
class ATOM(DataDAM):
    """Match spatial and channel attention and mean embeddings (Khaki et al., CVPR workshop 2024, arXiv:2405.01373).

    L(S) = scale · (w_s L_s + w_c L_c + λ L_MMD). L_s is DataDAM's term, and w_s is `attention_weight`. L_c compares the
    maps of each block summed over places, one value per filter. With instance norm L_s is five to seven times L_c, so
    equal weights do not give equal influence. Both terms are logged.
    """

    channel_power: Annotated[float, Range(0.1, 16)] = 4.0
    """Power of the activations in channel attention. With instance norm a power of 1 almost switches it off."""
    channel_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the channel term; 0 gives DataDAM. The paper's figure shows a plain sum."""

    name = "atom"

    def views(self, maps: list[Tensor], embedding: Tensor) -> Views:
        """Spatial attention of all blocks but the last, their channel attention, then the embedding."""
        spatial, channel = [], []
        for features in maps[:-1]:
            energy = attention_energy(features, power=self.power, norm=self.map_norm)
            if self.attention_weight:
                spatial.append(unit(pooled(energy, SPATIAL, self.map_pooling), self.map_norm))
            if self.channel_weight:
                if self.channel_power != self.power:
                    energy = attention_energy(features, power=self.channel_power, norm=self.map_norm)
                channel.append(unit(pooled(energy, CHANNEL, self.map_pooling), self.map_norm))
        return [*spatial, *channel, embedding]

    def terms(self, real: ClassMeans, synthetic: ClassMeans) -> dict[str, Float[Tensor, ""]]:
        """L_s, L_c, L_MMD and their weighted sum."""
        assert self.mmd_weight is not None, "resolve the settings first"
        mmd = squared_distance(real[-1], synthetic[-1])
        distances = [
            map_distance(first, second, self.distance) for first, second in zip(real[:-1], synthetic[:-1], strict=True)
        ]
        kinds = bool(self.attention_weight) + bool(self.channel_weight)
        blocks = len(distances) // max(kinds, 1)
        split = blocks if self.attention_weight else 0
        spatial, channel = (sum(part, mmd.new_zeros(())) for part in (distances[:split], distances[split:]))
        attention = self.attention_weight * spatial + self.channel_weight * channel
        return {"loss": self.scale * (attention + self.mmd_weight * mmd), "sam": spatial, "cam": channel, "mmd": mmd}

    @classmethod
    def paper(cls, data: str, *, ipc: int, variant: Literal["paper", "released"] = "paper") -> Self:
        """The settings of one cell of the paper's tables (`attar condense atom --paper` lists them).

        Data sets, augmentation and whitening are the paper's. Steps, step size, powers, λ and batch are DataDAM's and
        are not verified for ATOM.

        Raises:
            InputError: The table does not have the cell, or the variant is released, which does not exist.
        """
        if variant == "released":
            raise InputError("ATOM's authors have released no code; give --variant paper.")
        return published(cls, data, ipc)


def channel_attention(
    features: Maps, *, power: float = 4.0, pooling: Literal["sum", "max"] = "sum", norm: MapNorm = "l2"
) -> Float[Tensor, "image filter"]:
    """Channel attention of each image: ``Σ_places |f|^p`` for each filter, as a vector that is normalised per image.

    Args:
        features: A block's maps after its activation.
        power: p.
        pooling: Sum or maximum over places.
        norm: Unit L2 or L1 length, division by the squared L2 norm, or none.
    """
    return unit(pooled(attention_energy(features, power=power, norm=norm), CHANNEL, pooling), norm)
