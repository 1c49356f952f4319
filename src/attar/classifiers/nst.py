"""NST: the patterns that a student's channels select should be spread as its teacher's.

No connector is needed, since sets of channels are compared and not channel with channel; only the places have to
agree, to which the larger map is pooled. A rival of attention, which sums the channels first.
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
    """Select what the teacher selects (Huang and Wang, arXiv 2017, arXiv:1707.01219).

    L = CE + w Σ_stages MMD²(x, y), x and y the student's and the teacher's channels as patterns of length one over
    places, with the kernel ⟨x, y⟩².
    """

    weight: Annotated[float, Range(0)] = 50.0
    """Weight of the method's term, w (CRD's benchmark)."""

    name = "nst"
    uses_stages = True

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The stages' discrepancies together."""
        pairs = zip(batch.student.stages, batch.teacher.stages, strict=True)
        losses = [nst_loss(given, wanted) for given, wanted in pairs]
        return {"selectivity": self.weight * torch.stack(losses).sum()}


def nst_loss(student: AnyMaps, teacher: AnyMaps) -> Scalar:
    """The squared maximum mean discrepancy of two sets of channels, averaged over samples.

    E⟨x, x'⟩² + E⟨y, y'⟩² - 2 E⟨x, y⟩² over all pairs of channels, the larger map pooled to the size of the smaller. As
    ⟨x, y⟩² = ⟨x xᵀ, y yᵀ⟩ it is also ‖E x xᵀ - E y yᵀ‖²; of the two that with the smaller matrices is computed.

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
    """Each channel over places, at length one: its scale does not matter; one that is zero everywhere stays so."""
    return F.normalize(maps.flatten(2), dim=2)


def by_places(student: Patterns, teacher: OtherPatterns) -> Scalar:
    """‖E x xᵀ - E y yᵀ‖², in matrices of places by places."""
    first, second = (side.transpose(1, 2) @ side / side.shape[1] for side in (student, teacher))
    return (first - second).square().sum(dim=(1, 2)).mean()


def by_channels(student: Patterns, teacher: OtherPatterns) -> Scalar:
    """E⟨x, x'⟩² + E⟨y, y'⟩² - 2 E⟨x, y⟩², in matrices of channels by channels."""
    pairs = ((student, student), (teacher, teacher), (student, teacher))
    own, theirs, across = ((first @ second.transpose(1, 2)).square().mean() for first, second in pairs)
    return own + theirs - 2 * across
