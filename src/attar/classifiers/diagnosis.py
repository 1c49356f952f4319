"""The geometry of a classifier's features and weights, compared with neural collapse.

In a network trained to convergence on labels, the features of each class lie in one point, and class means and
classifier rows are the corners of one simplex (neural collapse: Papyan, Han and Donoho, PNAS 2020). DHKD's paper says
that a second loss on the same logits prevents this in the classifier. The diagnosis shows whether that is so
(arXiv:2411.08937).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.classifiers.watched import Watched, last_linear
from attar.core.errors import InputError


@dataclass(frozen=True)
class Diagnosis:
    """Geometry of features and classifier. All values except the last are 0 at full neural collapse."""

    within: float
    """NC1: tr(Σ_W Σ_B⁺) / C, the spread within classes relative to the spread between them."""
    lengths: float
    """NC2: relative spread of the lengths of the centred class means."""
    angles: float
    """NC2: mean difference of the cosines between class means from those of a simplex, -1 / (C - 1)."""
    duality: float
    """NC3: distance between centred means and classifier rows, each matrix scaled to norm one."""
    disagreement: float
    """NC4: per cent of samples that the nearest class mean puts into another class than the network does."""
    rank: float
    """Effective rank of the classifier: the exponential of the entropy of its singular values. C - 1 is enough."""

    def __str__(self) -> str:
        return (
            f"within / between classes {self.within:.3f}; lengths of means ± {100 * self.lengths:.0f} %, cosines off "
            f"by {self.angles:.3f}; means and weights {self.duality:.3f} apart; nearest mean differs on "
            f"{self.disagreement:.1f} %; classifier of rank {self.rank:.1f}"
        )


def diagnose(
    network: Any,
    batches: Iterable[tuple[Any, Tensor]],
    classes: int,
    *,
    rows: Int[Tensor, " class"] | None = None,
) -> Diagnosis:
    """The diagnosis of a network on labelled batches.

    Args:
        network: A module that gives a logit for every class.
        batches: Inputs and labels, such as `[(images, labels)]`.
        classes: Number of classes.
        rows: Numbers of the network's logits that are these classes. Default: all.

    Raises:
        InputError: A class has no sample, features are not finite, or no linear layer gives the logits.
    """
    watched = Watched(network)
    network.eval()
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.no_grad():
        for inputs, labels in batches:
            said = watched(inputs)
            parts.append((said.embedding.cpu().double(), said.logits.cpu().double(), labels.cpu()))
    embedding, logits, labels = (torch.cat([part[index] for part in parts]) for index in range(3))
    if not embedding.shape[1]:
        raise InputError("no linear layer gives the network's logits, so it has no features to diagnose.")
    weights = last_linear(network).weight.detach().cpu().double()
    if rows is not None:
        logits, weights = logits[:, rows], weights[rows]
    return geometry(embedding, logits, labels, weights, classes)


def geometry(
    embedding: Float[Tensor, "sample feature"],
    logits: Float[Tensor, "sample classes"],
    labels: Int[Tensor, " sample"],
    weights: Float[Tensor, "classes feature"],
    classes: int,
) -> Diagnosis:
    """The diagnosis from features, logits, labels and the classifier's rows, in double precision."""
    if not embedding.isfinite().all():
        raise InputError("the network's features are not finite.")
    counts = torch.bincount(labels, minlength=classes)
    if not counts.all():
        raise InputError(f"class {int(counts.argmin())} has no sample to diagnose.")
    means = torch.zeros(classes, embedding.shape[1], dtype=embedding.dtype).index_add_(0, labels, embedding)
    means = means / counts[:, None]
    spread = embedding - means[labels]
    centred = means - means.mean(dim=0)
    within = spread.T @ spread / len(embedding)
    between = centred.T @ centred / classes
    lengths = centred.norm(dim=1)
    units = F.normalize(centred, dim=1)
    cosines = (units @ units.T)[~torch.eye(classes, dtype=torch.bool)]
    rows = weights - weights.mean(dim=0)
    nearest = torch.cdist(embedding, means).argmin(dim=1)
    return Diagnosis(
        within=float((within @ torch.linalg.pinv(between, hermitian=True)).trace() / classes),
        lengths=float(lengths.std(correction=0) / lengths.mean()),
        angles=float((cosines + 1 / (classes - 1)).abs().mean()),
        duality=float((rows / rows.norm() - centred / centred.norm()).norm()),
        disagreement=100 * float((nearest != logits.argmax(dim=1)).double().mean()),
        rank=float(torch.special.entr(_shares(torch.linalg.svdvals(weights))).sum().exp()),
    )


def _shares(values: Tensor) -> Tensor:
    return values / values.sum()
