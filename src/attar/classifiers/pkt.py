"""PKT: match similarities between samples as probability distributions over the batch.

It needs no connector, and features may have different sizes. It is an alternative to sp and rkd, which compare the
similarities or distances themselves.
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
"""Lower bound on lengths that divide; also added to probabilities before their logarithm (the authors' value)."""


@dataclass(frozen=True, kw_only=True)
class PKT(InBenchmark):
    """Match similarities as probabilities (Passalis and Tefas, ECCV 2018, arXiv:1803.10837).

    L = CE + w mean_ij P_t(j|i) log (P_t(j|i) / P_s(j|i)), on the features before the last layer. P(j|i) is the batch's
    kernel (1 + cos(v_i, v_j)) / 2, with each row divided by its sum.
    """

    weight: Annotated[float, Range(0)] = 30000.0
    """Weight of the method's term, w, for the mean over all pairs of a batch, each sample with itself included (CRD's
    benchmark, batches of 64). In a batch an eighth as large the mean is about eight times as large."""

    name = "pkt"
    compares_samples = True
    features_of = ("student", "teacher")

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The divergence between the batch's distributions."""
        return {"probabilities": self.weight * pkt_loss(batch.student.embedding, batch.teacher.embedding)}


def probabilities(embedding: Embedding) -> Float[Tensor, "sample sample"]:
    """P(j|i) = K_ij / Σ_k K_ik with K_ij = (1 + cos(v_i, v_j)) / 2. The lengths of features do not matter."""
    units = F.normalize(embedding, dim=1, eps=EPSILON)
    kernel = (1 + units @ units.T).clamp(min=0) / 2  # opposite vectors, rounded, lie a little below zero
    return F.normalize(kernel, p=1, dim=1)


def pkt_loss(student: Embedding, teacher: OtherEmbedding) -> Scalar:
    """The mean over all B² pairs of P_t log (P_t / P_s): the sum of KL(P_t ‖ P_s) over rows, divided by B²."""
    given, wanted = probabilities(student), probabilities(teacher.detach())
    return (wanted * ((wanted + EPSILON) / (given + EPSILON)).log()).mean()
