"""CC: correlations between samples should be the same for the student as for the teacher.

Two losses have this name. The field's tables use one on neighbours in a batch, from code that the authors gave to those
of CRD. The paper has one on a Gaussian kernel of all pairs, an alternative to sp, rkd and pkt.
Peng, Jin, Liu, Zhou, Wu, Liu, Li and Zhang, Correlation Congruence for Knowledge Distillation, ICCV 2019,
arXiv:1904.01802.
"""

import dataclasses
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.classifiers.distillation import InBenchmark
from attar.classifiers.kd import Scalar
from attar.classifiers.pair import Batch, Distilling, Pair, Terms
from attar.classifiers.rkd import Embedding, OtherEmbedding
from attar.classifiers.watched import Answers
from attar.core.runtime import Runtime
from attar.core.settings import Range

USUAL = {"neighbours": 0.02, "kernel": 100.0}
"""Default weight of each form of the loss."""


@dataclass(frozen=True, kw_only=True)
class CC(InBenchmark):
    """Match correlations between samples (Peng et al., ICCV 2019, arXiv:1904.01802).

    L = CE + w L_cc, on the features before the last layer. `neighbours`: the products of neighbours' errors in learned
    linear embeddings. `kernel`: mean_ij (φ(s_i, s_j) - φ(t_i, t_j))² of the features, with the Taylor series φ of the
    Gaussian kernel.
    """

    congruence: Literal["neighbours", "kernel"] = "neighbours"
    """Form of the loss: correlations of neighbours in the batch (CRD's benchmark, its weight and its table), or of all
    pairs by the paper's kernel, without embeddings. With neighbours both embeddings are trained, and nothing prevents
    them from shrinking together."""
    weight: Annotated[float, Range(0)] | None = None
    """Weight of the method's term, w. Default: the benchmark's 0.02 for neighbours, and 100 for the kernel (from a
    re-implementation on CIFAR-10; the paper's own could not be verified)."""
    features: Annotated[int, Range(1)] = 128
    """Size of the embeddings, with --congruence neighbours."""
    gamma: Annotated[float, Range(0)] = 0.4
    """γ of the kernel exp(-γ ‖x - y‖²) (not verified in the paper)."""
    taylor_order: Annotated[int, Range(1)] = 2
    """Order of the kernel's Taylor series (not verified in the paper)."""

    moved = MappingProxyType({**InBenchmark.moved, "form": "congruence"})
    name = "cc"
    compares_samples = True
    features_of = ("student", "teacher")

    def resolve(self, pair: Pair, runtime: Runtime) -> Self:
        """Fill in the weight."""
        return dataclasses.replace(super().resolve(pair, runtime), weight=self._weight)

    @property
    def _weight(self) -> float:
        return USUAL[self.congruence] if self.weight is None else self.weight

    def connectors(self, student: Answers, teacher: Answers) -> dict[str, nn.Module]:
        """The embeddings of both networks, for neighbours."""
        if self.congruence == "kernel":
            return {}
        sides = {"student": student, "teacher": teacher}
        return {name: nn.Linear(said.embedding.shape[1], self.features) for name, said in sides.items()}

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The difference of the correlations."""
        given, wanted = batch.student.embedding, batch.teacher.embedding
        if self.congruence == "kernel":
            loss = kernel_loss(given, wanted, gamma=self.gamma, order=self.taylor_order)
        else:
            loss = neighbour_loss(state.parts["student"](given), state.parts["teacher"](wanted))
        return {"correlation": self._weight * loss}


def neighbour_loss(student: Embedding, teacher: Embedding) -> Scalar:
    """Σ |δ_i δ_(i+1)| over features, where δ_i = s_i - t_i, averaged over the B - 1 pairs of neighbours in the batch.

    Both embeddings have a gradient. If a sample has no error, both of its pairs cost nothing.
    """
    errors = (student - teacher).abs()
    return (errors[:-1] * errors[1:]).sum(dim=1).mean()


def correlations(embedding: Embedding, gamma: float = 0.4, order: int = 2) -> Float[Tensor, "sample sample"]:
    """φ(v_i, v_j) = e^(-2γ) Σ_p (2γ ⟨v_i, v_j⟩)^p / p!, with p up to the order, for features at length one.

    For order → ∞ it is exp(-γ ‖v_i - v_j‖²), because ‖v_i - v_j‖² = 2 - 2 ⟨v_i, v_j⟩.
    """
    units = F.normalize(embedding, dim=1)
    exponents = 2 * gamma * units @ units.T
    powers = [exponents**power / math.factorial(power) for power in range(order + 1)]
    return math.exp(-2 * gamma) * torch.stack(powers).sum(dim=0)


def kernel_loss(student: Embedding, teacher: OtherEmbedding, *, gamma: float = 0.4, order: int = 2) -> Scalar:
    """The mean squared difference of `correlations` over all B² pairs. Lengths and rotation do not change it."""
    return F.mse_loss(correlations(student, gamma, order), correlations(teacher.detach(), gamma, order))
