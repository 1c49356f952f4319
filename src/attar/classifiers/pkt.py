"""PKT: how likely one sample is to pick another as its like should be a student's as it is its teacher's.

No connector is needed, and features may have different sizes. A rival of sp and rkd, which compare the similarities or
distances themselves: here each sample's are a distribution over the batch.
Passalis and Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018, arXiv:1803.10837.
"""

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.distillation import InBenchmark
from attar.classifiers.kd import Scalar
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.classifiers.rkd import Embedding, OtherEmbedding
from attar.core.settings import Range

EPSILON = 1e-7
"""Lengths are no less before they divide, and probabilities are larger by it before their logarithm; the authors'."""


@dataclass(frozen=True, kw_only=True)
class PKT(InBenchmark):
    """Keep who is likely to be alike (Passalis and Tefas, ECCV 2018, arXiv:1803.10837).

    L = CE + w mean_ij P_t(j|i) log (P_t(j|i) / P_s(j|i)), on the features before the last layer, where P(j|i) is the
    batch's kernel (1 + cos(v_i, v_j)) / 2 with each row at sum one.
    """

    weight: Annotated[float, Range(0)] = 30000.0
    """Weight of the method's term, w, for the mean over all pairs of a batch, the sample with itself among them (CRD's
    benchmark, whose batches are of 64; in a batch of an eighth of that the mean is about eight times as large)."""

    name = "pkt"
    compares_samples = True

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The divergence of the batch's distributions."""
        return {"probabilities": self.weight * pkt_loss(batch.student.embedding, batch.teacher.embedding)}


def probabilities(embedding: Embedding) -> Float[Tensor, "sample sample"]:
    """P(j|i) = K_ij / Σ_k K_ik with K_ij = (1 + cos(v_i, v_j)) / 2; the lengths of features do not matter."""
    units = F.normalize(embedding, dim=1, eps=EPSILON)
    kernel = (1 + units @ units.T).clamp(min=0) / 2  # opposite vectors, rounded, lie a little below zero
    return F.normalize(kernel, p=1, dim=1)


def pkt_loss(student: Embedding, teacher: OtherEmbedding) -> Scalar:
    """The mean over all B² pairs of P_t log (P_t / P_s): the sum of all rows' KL(P_t ‖ P_s), divided by B²."""
    given, wanted = probabilities(student), probabilities(teacher.detach())
    return (wanted * ((wanted + EPSILON) / (given + EPSILON)).log()).mean()
