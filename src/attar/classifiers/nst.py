"""NST: match the distribution of the student's channel activations to the teacher's.

It compares sets of channels and not single channels, so it needs no connector. Only the map sizes have to agree, so the
larger map is pooled. It is an alternative to attention, which sums the channels first.
Huang and Wang, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, arXiv:1707.01219.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.distillation import InBenchmark
from attar.classifiers.fitnets import AnyMaps, Maps, at_one_size
from attar.classifiers.kd import Scalar
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.core.settings import Range

Patterns = Float[Tensor, "sample channel place"]
OtherPatterns = Float[Tensor, "sample other place"]


@dataclass(frozen=True, kw_only=True)
class NST(InBenchmark):
    """Match the distribution of channel activations (Huang and Wang, arXiv 2017, arXiv:1707.01219).

    L = CE + w Σ_stages MMD²(x, y), where x and y are the channels of student and teacher as unit vectors over
    positions,
    and the kernel is ⟨x, y⟩².
    """

    weight: Annotated[float, Range(0)] = 50.0
    """Weight of the method's term, w (CRD's benchmark)."""

    name = "nst"
    uses_stages = True

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The sum of the discrepancies of all stages."""
        pairs = zip(batch.student.stages, batch.teacher.stages, strict=True)
        losses = [nst_loss(given, wanted) for given, wanted in pairs]
        return {"selectivity": self.weight * torch.stack(losses).sum()}


def nst_loss(student: AnyMaps, teacher: AnyMaps) -> Scalar:
    """The squared maximum mean discrepancy of two sets of channels, averaged over samples.

    It is E⟨x, x'⟩² + E⟨y, y'⟩² - 2 E⟨x, y⟩² over all pairs of channels. The larger map is pooled to the size of the
    smaller. Because ⟨x, y⟩² = ⟨x xᵀ, y yᵀ⟩ it equals ‖E x xᵀ - E y yᵀ‖². The form with the smaller matrices is
    computed.

    Args:
        student: Maps of a stage of the student.
        teacher: Maps of the same stage of the teacher.
    """
    given, wanted = (patterns(maps) for maps in at_one_size(student, teacher.detach()))
    (many, places), others = given.shape[1:], wanted.shape[1]
    if 2 * places**2 < many**2 + others**2 + many * others:
        return by_places(given, wanted)
    return by_channels(given, wanted)


def patterns(maps: Maps) -> Patterns:
    """Each channel as a unit vector over positions, so that its scale does not matter. A zero channel stays zero."""
    return F.normalize(maps.flatten(2), dim=2)


def by_places(student: Patterns, teacher: OtherPatterns) -> Scalar:
    """‖E x xᵀ - E y yᵀ‖², computed in position × position matrices."""
    first, second = (side.transpose(1, 2) @ side / side.shape[1] for side in (student, teacher))
    return (first - second).square().sum(dim=(1, 2)).mean()


def by_channels(student: Patterns, teacher: OtherPatterns) -> Scalar:
    """E⟨x, x'⟩² + E⟨y, y'⟩² - 2 E⟨x, y⟩², computed in channel × channel matrices."""
    pairs = ((student, student), (teacher, teacher), (student, teacher))
    own, theirs, across = ((first @ second.transpose(1, 2)).square().mean() for first, second in pairs)
    return own + theirs - 2 * across
