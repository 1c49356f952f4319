"""AT: the student's attention maps should match the teacher's.

It is cheap and needs no connector, because an attention map has no channels. It falls below the plain student if the
two networks are of different kinds.
Zagoruyko and Komodakis, Paying More Attention to Attention, ICLR 2017, arXiv:1612.03928.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.distillation import InBenchmark
from attar.classifiers.fitnets import AnyMaps, Maps, at_one_size
from attar.classifiers.kd import Scalar
from attar.classifiers.pair import Batch, Distilling, Pair, Terms
from attar.core.runtime import Runtime
from attar.core.settings import Range

USUAL = 1000.0
"""β of the field's tables, at 32 pixels."""


@dataclass(frozen=True, kw_only=True)
class AttentionTransfer(InBenchmark):
    """Match the teacher's attention maps (Zagoruyko and Komodakis, ICLR 2017, arXiv:1612.03928).

    L = CE + β Σ_stages ‖ A_s - A_t ‖², where A is the normalised map of summed powers of channels.
    """

    weight: Annotated[float, Range(0)] | None = None
    """Weight of the method's term, β, for the mean over elements. Default: the field's 1,000 at 32 pixels, in
    proportion to the number of pixels. The paper's form needs a much smaller weight."""
    power: Annotated[float, Range(0.01)] = 2.0
    """Power p of the activations in each channel."""
    form: Literal["released", "paper"] = "released"
    """Form of the loss: the mean over elements of the squared difference, or the paper's Euclidean distance."""

    name = "attention"
    uses_stages = True

    def resolve(self, pair: Pair, runtime: Runtime) -> Self:
        """Fill in β."""
        _, height, width = pair.source.shape
        usual = USUAL * height * width / 32**2
        return dataclasses.replace(super().resolve(pair, runtime), weight=usual if self.weight is None else self.weight)

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The sum of the distances of all stages."""
        pairs = zip(batch.student.stages, batch.teacher.stages, strict=True)
        losses = [attention_loss(given, wanted, power=self.power, form=self.form) for given, wanted in pairs]
        weight = USUAL if self.weight is None else self.weight
        return {"attention": weight * torch.stack(losses).sum()}


def attention_map(maps: Maps, power: float = 2.0) -> Float[Tensor, "sample place"]:
    """The mean over channels of |f|^p at every position, at length one.

    The scale and order of channels do not matter.
    """
    return F.normalize(maps.abs().pow(power).mean(dim=1).flatten(1), dim=1)


def attention_loss(
    student: AnyMaps, teacher: AnyMaps, *, power: float = 2.0, form: Literal["released", "paper"] = "released"
) -> Scalar:
    """The distance of two attention maps. The larger one is pooled to the size of the smaller.

    Args:
        student: Maps of a stage of the student.
        teacher: Maps of the same stage of the teacher.
        power: Power of the activations in each channel.
        form: released: the mean over all elements of the squared difference, for which the field's weight is 1,000.
            paper: the Euclidean distance, averaged over samples.
    """
    given, wanted = (attention_map(maps, power) for maps in at_one_size(student, teacher.detach()))
    if form == "released":
        return (given - wanted).square().mean()
    return (given - wanted).norm(dim=1).mean()
