"""SP: samples that are similar for the teacher should be similar for the student.

Maps are compared only with maps of the same network, so it needs no connector, and channels and positions may differ.
It is an alternative to rkd, and costs one product of a batch with itself.
Tung and Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019, arXiv:1907.09682.
"""

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.distillation import InBenchmark
from attar.classifiers.kd import Scalar
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.classifiers.watched import Answers
from attar.core.errors import InputError
from attar.core.settings import Range

Features = Float[Tensor, "sample *place"]
OtherFeatures = Float[Tensor, "sample *other"]


@dataclass(frozen=True, kw_only=True)
class SP(InBenchmark):
    """Match similarities between the samples of a batch (Tung and Mori, ICCV 2019, arXiv:1907.09682).

    L = CE + γ ‖G_s - G_t‖² / B², on the maps of the last stage. For two networks without stages it uses the features
    before the last layer.
    """

    weight: Annotated[float, Range(0)] = 3000.0
    """Weight of the method's term, γ (CRD's benchmark)."""

    name = "sp"
    compares_samples = True
    uses_maps = True

    def check_pair(self, student: Answers, teacher: Answers) -> None:
        """Check that both networks have stages, or else features.

        Raises:
            InputError: They do not.
        """
        super().check_pair(student, teacher)
        for who, answers in (("student", student), ("teacher", teacher)):
            if not (student.stages and teacher.stages) and not answers.embedding.shape[1]:
                raise InputError(
                    f"sp compares maps, or the features before the last linear layer, and the {who} shows neither. "
                    "Name layers (--student-layers, --teacher-layers)."
                )

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The distance between the similarity matrices."""
        said = batch.student, batch.teacher
        staged = all(answers.stages for answers in said)
        given, wanted = (answers.stages[-1] if staged else answers.embedding for answers in said)
        return {"similarity": self.weight * similarity_loss(given, wanted)}


def similarities(features: Features) -> Float[Tensor, "sample sample"]:
    """G: the inner products of all pairs of samples, each row at length one.

    The scale of the features does not matter.
    """
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


def similarity_loss(student: Features, teacher: OtherFeatures) -> Scalar:
    """‖G_s - G_t‖² / B²: the squared Frobenius norm divided by the squared number of samples."""
    return (similarities(student) - similarities(teacher.detach())).square().mean()
