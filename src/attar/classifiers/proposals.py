"""ND in your own detector: class means and the loss over its proposals, and the published weights.

There is no detector here. The features are those of the box head for a proposal before its last layers (1,024
numbers). The classes are those of the objects and the background: 81 on COCO. `ClassMeans` accumulates the teacher's
class means, batch by batch.
Wang, Cheng, Duan, Wang, Feng and Kong, Improving Knowledge Distillation via Regularizing Feature Norm and Direction,
arXiv:2305.17007.
"""

from jaxtyping import Float
from torch import Tensor

from attar.classifiers.kd import Scalar
from attar.classifiers.nd import EPSILON, Embedding, Labels, nd_losses

DETECTION: dict[str, dict[str, tuple[float, float]]] = {
    "resnet101-resnet18": {"kd": (1.0, 1.5), "reviewkd": (1.2, 1.5)},
    "resnet101-resnet50": {"kd": (1.0, 1.0), "reviewkd": (1.4, 1.0)},
    "resnet50-mobilenetv2": {"kd": (1.0, 1.0), "reviewkd": (2.2, 1.5)},
}
"""Weights of the base and of ND on COCO, by backbones of teacher and student (Faster R-CNN with FPN): L = L_detector +
λ L_base + λ_nd L_nd, at temperature 1. The scripts use batches of 8 images and 180,000 steps with learning rate 0.01,
divided by ten after 120,000 and 160,000, and class means of 30,000 iterations. The script of mobilenetv2 says 30,010
steps."""


def proposal_loss(
    student: Embedding,
    teacher: Embedding,
    labels: Labels,
    directions: Float[Tensor, "classes feature"],
    *,
    background: int | None = None,
    background_weight: float = 1.0,
) -> Scalar:
    """ND's loss, averaged over the proposals of a batch. Proposals with a label below zero do not count.

    The loss is zero if no proposal counts. Most proposals are background. The released code weighs it like any other
    class.

    Args:
        student: The student's features, through a `Projector` if sizes differ.
        teacher: The teacher's features of the same proposals.
        labels: Classes of the proposals; below zero for a proposal to ignore.
        directions: A unit vector for every class, the background included (`ClassMeans.directions`).
        background: Number of the background class, if it has another weight (80 in detectron2's numbering of COCO).
        background_weight: Weight of a background proposal in the average; other proposals have weight 1.
    """
    known = labels >= 0
    weights = student.new_ones(len(labels))
    if background is not None:
        weights = weights.masked_fill(labels == background, background_weight)
    losses = nd_losses(student[known], teacher[known], labels[known], directions)
    return (weights[known] * losses).sum() / weights[known].sum().clamp(min=EPSILON)
