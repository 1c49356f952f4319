"""RKD: distances and angles between samples should be the same for the student as for the teacher.

It needs no connector, and features may have different sizes. Memory grows with the third power of the batch size.
Park, Kim, Lu and Cho, Relational Knowledge Distillation, CVPR 2019, arXiv:1904.05068.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.distillation import InBenchmark
from attar.classifiers.kd import Scalar
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.core.settings import Range

Embedding = Float[Tensor, "sample feature"]
OtherEmbedding = Float[Tensor, "sample other"]
SMALLEST = 1e-12
"""Lower bound on squared distances before the square root, whose slope at zero is infinite."""


@dataclass(frozen=True, kw_only=True)
class RKD(InBenchmark):
    """Match the teacher's distances and angles (Park et al., CVPR 2019, arXiv:1904.05068).

    L = CE + w_d L_distance + w_a L_angle, on the features before the last layer.
    """

    distance_weight: Annotated[float, Range(0)] = 25.0
    """Weight w_d of the distances of pairs (CRD's benchmark). The authors' code for metric learning uses 1."""
    angle_weight: Annotated[float, Range(0)] = 50.0
    """Weight w_a of the angles of triples (CRD's benchmark). The authors' code for metric learning uses 2."""

    name = "rkd"
    compares_samples = True
    features_of = ("student", "teacher")

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The terms of distances and of angles."""
        given, wanted = batch.student.embedding, batch.teacher.embedding
        terms = {}
        if self.distance_weight:
            terms["distance"] = self.distance_weight * distance_loss(given, wanted)
        if self.angle_weight:
            terms["angle"] = self.angle_weight * angle_loss(given, wanted)
        return terms


def distances(embedding: Embedding) -> Float[Tensor, "sample sample"]:
    """Euclidean distances of all pairs, divided by the mean of the non-zero ones."""
    lengths = embedding.square().sum(dim=1)
    squared = (lengths[:, None] + lengths[None, :] - 2 * embedding @ embedding.T).clamp(min=SMALLEST)
    found = squared.sqrt() * (1 - torch.eye(len(embedding), device=embedding.device, dtype=embedding.dtype))
    return found / found[found > 0].mean()


def angles(embedding: Embedding) -> Float[Tensor, "corner sample sample"]:
    """The cosine of ∠ijk for all triples: [j, i, k] = ⟨e_ij, e_kj⟩, where e_ij is the unit vector from j to i."""
    units = F.normalize(embedding[None, :, :] - embedding[:, None, :], dim=2)
    return units @ units.transpose(1, 2)


def distance_loss(student: Embedding, teacher: OtherEmbedding) -> Scalar:
    """The smooth L1 loss of relative distances over all B² pairs. Scale, shift and rotation do not change it."""
    return F.smooth_l1_loss(distances(student), distances(teacher.detach()))


def angle_loss(student: Embedding, teacher: OtherEmbedding) -> Scalar:
    """The smooth L1 loss of angles over all B³ triples. Scale, shift and rotation do not change it."""
    return F.smooth_l1_loss(angles(student), angles(teacher.detach()))
