"""DataDAM: match the spatial attention of every block of random networks, and their embeddings.

Try it in place of DM from ten images per class on; the cost is about the same. At one image per class they are equally
good.
Sajedi, Khaki, Amjadian, Liu, Lawryshyn and Plataniotis, DataDAM: Efficient Dataset Distillation with Attention
Matching, ICCV 2023, arXiv:2310.00093.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.images.condense.distribution import ClassMeans, DistributionMatching, Views, squared_distance
from attar.images.sources import ImageSource

Maps = Float[Tensor, "image filter height width"]
MapNorm = Literal["l2", "l1", "squared-l2", "none"]


@dataclass(frozen=True, kw_only=True)
class DataDAM(DistributionMatching):
    """Match spatial attention and mean embeddings of random networks (Sajedi et al., ICCV 2023, arXiv:2310.00093).

    L(S) = scale · (L_SAM + λ L_MMD). L_SAM is the squared distance of mean attention maps, summed over classes and all
    blocks but the last. L_MMD is DM's loss. Paper and released code differ in p, normalisation, scale, iterations and
    evaluation; `paper(..., variant=)` has both.
    """

    power: Annotated[float, Range(0.1, 16)] = 4.0
    """Power p of the activations in an attention map (paper 4, released code 1)."""
    attention_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the attention term; 0 gives DM."""
    mmd_weight: Annotated[float, Range(0)] | None = None
    """Weight of the embedding term, λ. Default: 0.01 up to 64 pixels and 0.02 above, as in the paper."""
    scale: Annotated[float, Range(0)] = 100.0
    """Factor of the whole loss. It is 100 in the released code, where λ = 0.01 makes the second term DM's loss."""
    map_pooling: Literal["sum", "max"] = "sum"
    """Pooling of a block's filters into an attention map: their sum or their maximum."""
    map_norm: MapNorm = "l2"
    """Normalisation of an attention map. squared-l2 is what the released code calls Frobenius."""
    distance: Literal["squared", "absolute", "angular"] = "squared"
    """Distance between what is matched, the mean maps. The released code has absolute and angular, but does not use
    them. Here angular is 1 - cosine."""

    name = "datadam"

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the settings without a value."""
        large = max(source.shape[1:]) > 64
        weight = self.mmd_weight if self.mmd_weight is not None else (0.02 if large else 0.01)
        return super(DataDAM, replace(self, mmd_weight=weight)).resolve(source, runtime)

    def views(self, maps: list[Tensor], embedding: Tensor) -> Views:
        """Attention of all blocks but the last, then the embedding; the embedding alone if attention has no weight."""
        if not self.attention_weight:
            return [embedding]
        attention = [
            spatial_attention(m, power=self.power, pooling=self.map_pooling, norm=self.map_norm) for m in maps[:-1]
        ]
        return [*attention, embedding]

    def terms(self, real: ClassMeans, synthetic: ClassMeans) -> dict[str, Float[Tensor, ""]]:
        """L_SAM, L_MMD and their weighted sum."""
        assert self.mmd_weight is not None, "resolve the settings first"
        mmd = squared_distance(real[-1], synthetic[-1])
        sam = mmd.new_zeros(())
        for first, second in zip(real[:-1], synthetic[:-1], strict=True):
            sam = sam + map_distance(first, second, self.distance)
        loss = self.scale * (self.attention_weight * sam + self.mmd_weight * mmd)
        return {"loss": loss, "sam": sam, "mmd": mmd}

    @classmethod
    def paper(cls, data: str, *, ipc: int, variant: Literal["paper", "released"] = "paper") -> Self:
        """The settings of one cell of the paper's tables (`attar condense datadam --paper` lists them).

        Raises:
            InputError: The table does not have the cell.
        """
        return published(cls, data, ipc, variant=variant)


def spatial_attention(
    features: Maps, *, power: float = 4.0, pooling: Literal["sum", "max"] = "sum", norm: MapNorm = "l2"
) -> Float[Tensor, "image places"]:
    """Spatial attention of each image: ``Σ_filters |f|^p`` at each place, as a vector that is normalised per image.

    Args:
        features: A block's maps after its activation.
        power: p.
        pooling: Sum or maximum over filters.
        norm: Unit L2 or L1 length, division by the squared L2 norm, or none.

    Returns:
        `[image, height * width]`. A map of zeros stays zero and has a finite gradient.
    """
    energy = attention_energy(features, power=power, norm=norm)
    return unit(pooled(energy, (1,), pooling), norm)


def attention_energy(features: Maps, *, power: float = 4.0, norm: MapNorm = "l2") -> Maps:
    """|f|^p. Spatial attention sums it over filters, channel attention over places.

    It is computed in float32, because the fourth power of activations from 16 on overflows half precision. It is
    divided by the image's largest activation if the later normalisation removes the scale. (Compiled, power 1 goes
    without: it cannot overflow, and looking for the largest costs a pass over the maps.)
    """
    strength = features.abs().to(torch.promote_types(features.dtype, torch.float32))
    if norm in ("l2", "l1") and not (power == 1 and torch.compiler.is_compiling()):
        strength = strength / strength.detach().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-8)
    return _power(strength, power)


def pooled(
    energy: Maps, dims: tuple[int, ...], pooling: Literal["sum", "max"] = "sum"
) -> Float[Tensor, "image attention"]:
    """Energy pooled over some dimensions, as one vector per image."""
    return (energy.sum(dim=dims) if pooling == "sum" else energy.amax(dim=dims)).flatten(1)


def unit(vectors: Float[Tensor, "image attention"], norm: MapNorm = "l2") -> Float[Tensor, "image attention"]:
    """The normalised vector of each image."""
    if norm == "none":
        return vectors
    length = vectors.norm(p=1 if norm == "l1" else 2, dim=1, keepdim=True)
    return vectors / (length.square() if norm == "squared-l2" else length).clamp_min(1e-12)


def map_distance(
    first: Float[Tensor, "class places"],
    second: Float[Tensor, "class places"],
    kind: Literal["squared", "absolute", "angular"] = "squared",
) -> Float[Tensor, ""]:
    """Distance of the classes' mean maps, summed over classes."""
    if kind == "squared":
        return squared_distance(first, second)
    if kind == "absolute":
        return (first - second).abs().sum()
    return (1 - torch.cosine_similarity(first, second, dim=1)).sum()


def _power(values: Tensor, power: float) -> Tensor:
    """Values to a power, by multiplication if that is faster."""
    if power == 1:
        return values
    if power in (2, 4):
        squares = values * values
        return squares if power == 2 else squares * squares
    return torch.pow(values, power)
