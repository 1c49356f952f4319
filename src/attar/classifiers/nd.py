"""ND: turn the student's features towards the teacher's class means, and make them at least as long as the teacher's.

It is added to another loss (KD++, DKD++, ReviewKD++) and costs one inner product per sample. For use in your own
detector see `attar.classifiers.proposals`.
Wang, Cheng, Duan, Wang, Feng and Kong, Improving Knowledge Distillation via Regularizing Feature Norm and Direction,
arXiv:2305.17007.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.classifiers.dist import DIST
from attar.classifiers.distillation import Distillation
from attar.classifiers.dkd import DKD
from attar.classifiers.kd import KD, Scalar
from attar.classifiers.pair import Batch, Distilling, Samples, Terms
from attar.classifiers.reviewkd import ReviewKD
from attar.classifiers.watched import Answers
from attar.core import store
from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.settings import Range

Embedding = Float[Tensor, "sample feature"]
Labels = Int[Tensor, " sample"]
Mixed = Float[Tensor, "sample classes"]
EPSILON = 1e-12


Base = Literal["kd", "dkd", "dist", "reviewkd", "none"]


@dataclass(frozen=True, kw_only=True)
class ND(Distillation):
    """Turn and lengthen features towards the teacher's class means (Wang et al., arXiv 2023, arXiv:2305.17007).

    L = CE + λ w(e) L_base + λ_nd L_nd. The setting `base` gives KD++, DKD++, DIST++ and ReviewKD++, or ND alone. The ND
    term
    is not warmed up. Class means are computed in one pass, with the teacher in evaluation mode.
    """

    base: Base = "kd"
    """Base method to which ND is added: kd, dkd, dist or reviewkd; none adds ND to the labels alone."""
    base_weight: Annotated[float, Range(0)] = 1.0
    """Weight λ of the base method. For dkd it multiplies both terms."""
    direction_weight: Annotated[float, Range(0)] = 1.0
    """Weight λ_nd of the feature norm and direction. The paper uses 0.5 to 4 by pair."""
    temperature: Annotated[float, Range(0.01)] = 4.0
    """Temperature that softens answers, T, in kd and dkd. The paper uses 1 on ImageNet."""
    alpha: Annotated[float, Range(0)] = 1.0
    """Weight α of the right class in dkd."""
    beta: Annotated[float, Range(0)] = 2.0
    """Weight β of the ranking of the others, in dkd."""
    projector_dropout: Annotated[float, Range(0, 1)] = 0.5
    """Dropout rate before the projector, which is used if student and teacher have different numbers of features."""
    means_of: Literal["images", "views"] = "images"
    """Images of the class means: the training images unchanged, or one augmented view of each (as in the released
    code)."""
    centred: bool = False
    """Whether the mean of all class means is subtracted first. This is an experiment of ours."""

    name = "nd"
    remembers = True
    features_of = ("student", "teacher")

    @property
    def uses_stages(self) -> bool:  # type: ignore[override]
        """Whether the base method compares stages."""
        return self.base == "reviewkd"

    @property
    def hard_labels(self) -> bool:  # type: ignore[override]
        """Whether the base method needs one class for each image. ND itself mixes class means as labels are mixed."""
        return self.base == "dkd"

    @property
    def added_to(self) -> Distillation | None:
        """The base method with these settings."""
        shared = {field.name: getattr(self, field.name) for field in fields(Distillation)}
        if self.base == "kd":
            return KD(**{**shared, "label_weight": 0.0}, teacher_weight=self.base_weight, temperature=self.temperature)
        if self.base == "dkd":
            return DKD(**shared, alpha=self.alpha, beta=self.beta, temperature=self.temperature)
        if self.base == "dist":
            return DIST(**shared)
        return ReviewKD(**shared) if self.base == "reviewkd" else None

    def connectors(self, student: Answers, teacher: Answers) -> dict[str, nn.Module]:
        """The connectors of the base method, and a projector if the feature sizes differ."""
        parts = {} if self.added_to is None else self.added_to.connectors(student, teacher)
        have, want = student.embedding.shape[1], teacher.embedding.shape[1]
        return parts | ({} if have == want else {"projector": Projector(have, want, self.projector_dropout)})

    @torch.no_grad()
    def memory_from(self, samples: Samples) -> "Directions":
        """The directions of the class means, from one pass of the teacher."""
        if samples.teacher is None:
            raise InputError("nd needs a teacher for the class means. Give a teacher.")
        means = None
        for inputs, labels in samples.batches(moved=self.means_of == "views"):
            said = samples.teacher(inputs).embedding.float()
            means = means or ClassMeans.empty(samples.classes, said.shape[1])
            means.add(said.cpu(), labels.cpu())
        if means is None:
            raise InputError("there are no training images to compute class means from.")
        units, lengths = means.directions(centred=self.centred), means.means(centred=self.centred).norm(dim=1)
        return Directions(units.to(samples.device), lengths.float().to(samples.device))

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The terms of the base method, warmed up, and the ND term."""
        found = {} if self.added_to is None else self.added_to.terms(batch, state)
        already = self.base in ("dkd", "reviewkd")  # these warm up their terms themselves
        weight = (1.0 if already else batch.warm) * (1.0 if self.base == "kd" else self.base_weight)
        terms = {name: weight * term for name, term in found.items()}
        features = batch.student.embedding
        if "projector" in state.parts:
            features = state.parts["projector"](features)
        known = state.memory.means if batch.labels.is_floating_point() else state.memory.units
        loss = nd_loss(features, batch.teacher.embedding, batch.labels, known)
        return {**terms, "direction": self.direction_weight * loss}

    @classmethod
    def paper(cls, pair: str, base: Base = "kd") -> Self:
        """The settings of one cell of the paper's tables, as in its scripts.

        The scripts use Nesterov momentum, batches of 128 on CIFAR-100, epochs counted from 0 in the warm-up, and class
        means of
        augmented images. For regnety160-deit_b only epochs, batch and weights are known. The rest is DeiT's, with the
        temperature of the other ImageNet rows.

        Args:
            pair: Teacher and student, such as resnet56-resnet20.
            base: kd, dkd, dist (CIFAR-100 only) or reviewkd.

        Raises:
            InputError: The tables do not have the pair or the base.
        """
        return published(cls, pair, base)


@dataclass
class Directions:
    """The memory of ND: a unit vector for every class."""

    units: Tensor
    lengths: Tensor
    """Lengths of the class means, which are mixed if images are mixed."""

    @property
    def means(self) -> Tensor:
        """The class means."""
        return self.units * self.lengths[:, None]


class Projector(nn.Sequential):
    """Maps the student's features to the teacher's size, only for the loss: batch norm, dropout, a linear map."""

    def __init__(self, student: int, teacher: int, dropout: float = 0.5) -> None:
        super().__init__(nn.BatchNorm1d(student), nn.Dropout(dropout), nn.Linear(student, teacher))


def nd_loss(
    student: Embedding, teacher: Embedding, labels: Labels | Mixed, directions: Float[Tensor, "classes feature"]
) -> Scalar:
    """1 - ⟨g, e_y⟩ / max(‖g‖, ‖f_t‖), averaged over samples. It lies between 0 and 2.

    If g is shorter than the teacher's feature, the gradient is the constant -e_y / ‖f_t‖, which lengthens g towards its
    class. Otherwise the loss is 1 - cos(g, e_y), which turns g and does not change its length.

    Args:
        student: The student's features g before its last layer, through a `Projector` if sizes differ.
        teacher: The teacher's features f_t of the same samples.
        labels: The classes y. For mixed images the share of each class, by which class means are mixed too.
        directions: Unit vectors e (see `ClassMeans.directions`). For mixed labels the class means themselves.
    """
    return nd_losses(student, teacher, labels, directions).mean()


def nd_losses(
    student: Embedding, teacher: Embedding, labels: Labels | Mixed, directions: Float[Tensor, "classes feature"]
) -> Float[Tensor, " sample"]:
    """The loss of `nd_loss` for each sample."""
    if labels.is_floating_point():
        units = F.normalize(labels.to(directions.dtype) @ directions, dim=1)
    else:
        units = directions[labels]
    longest = torch.maximum(student.norm(dim=1), teacher.detach().norm(dim=1)).clamp(min=EPSILON)
    return 1 - (student * units).sum(dim=1) / longest


@dataclass
class ClassMeans:
    """The mean feature of each class, accumulated in one pass that can be interrupted and resumed."""

    sums: Float[Tensor, "classes feature"]
    counts: Int[Tensor, " classes"]

    @classmethod
    def empty(cls, classes: int, features: int) -> Self:
        """Empty sums in double precision."""
        return cls(torch.zeros(classes, features, dtype=torch.float64), torch.zeros(classes, dtype=torch.long))

    @torch.no_grad()
    def add(self, features: Embedding, labels: Labels) -> None:
        """Add a batch of any size. Samples with a label below zero are ignored.

        Raises:
            InputError: A label is larger than the largest class.
        """
        known = labels >= 0
        features, labels = features[known].cpu().double(), labels[known].cpu()
        if len(labels) and int(labels.max()) >= len(self.counts):
            raise InputError(
                f"label {int(labels.max())} is not one of the {len(self.counts)} classes, numbered from 0."
            )
        self.sums.index_add_(0, labels, features)
        self.counts += torch.bincount(labels, minlength=len(self.counts))

    def save(self, path: str | Path, teacher: nn.Module, preprocessing: Any) -> None:
        """Write the sums to a safetensors file, with a digest of the teacher and the preprocessing.

        Args:
            path: The file.
            teacher: The network that computed the features.
            preprocessing: The preprocessing of the images as plain values: sizes, mean and spread, augmentation.
        """
        made_by = store.digest_of(teacher.state_dict(), preprocessing)
        store.write_tensors(Path(path), {"sums": self.sums, "counts": self.counts}, {"made_by": made_by})

    @classmethod
    def load(cls, path: str | Path, teacher: nn.Module, preprocessing: Any) -> Self:
        """Read a file that `save` wrote for the same teacher and preprocessing.

        Raises:
            InputError: The file is missing, damaged, or of another teacher or preprocessing.
        """
        tensors, facts = store.read_tensors(Path(path))
        if facts.get("made_by") != store.digest_of(teacher.state_dict(), preprocessing):
            raise InputError(f"{path} holds class means of another teacher or preprocessing. Compute them again.")
        return cls(tensors["sums"], tensors["counts"])

    def means(self, *, centred: bool = False) -> Float[Tensor, "classes feature"]:
        """The class means. With `centred` their own mean is subtracted (an experiment of ours).

        Raises:
            InputError: A class has no sample.
        """
        if not self.counts.all():
            missing = (self.counts == 0).nonzero().flatten().tolist()
            raise InputError(
                f"no sample of class {', '.join(map(str, missing))}, so its mean feature cannot be computed."
            )
        means = self.sums / self.counts[:, None]
        return means - means.mean(dim=0) if centred else means

    def directions(self, *, centred: bool = False) -> Float[Tensor, "classes feature"]:
        """The class means at length one.

        Raises:
            InputError: A class has no sample, or its mean is zero.
        """
        means = self.means(centred=centred)
        lengths = means.norm(dim=1)
        if (lengths < EPSILON).any():
            raise InputError(f"the mean feature of class {int(lengths.argmin())} is zero, so it has no direction.")
        return F.normalize(means, dim=1).float()
