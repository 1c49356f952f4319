"""ND: a student's features should point to their class's mean in the teacher, and be no shorter than the teacher's.

An addition to any other loss (KD++, DKD++, ReviewKD++), for the price of one product a sample. In a detector of one's
own: `attar.classifiers.proposals`.
Wang, Cheng, Duan, Wang, Feng and Kong, Improving Knowledge Distillation via Regularizing Feature Norm and Direction,
arXiv:2305.17007.
"""

from dataclasses import dataclass
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
from attar.classifiers.schedules import DEIT_PAIRS, IMAGENET_PAIRS, of_imagenet, row_of, schedule
from attar.classifiers.watched import BEFORE, Answers
from attar.core import store
from attar.core.errors import InputError, unknown
from attar.core.settings import Range

Embedding = Float[Tensor, "sample feature"]
Labels = Int[Tensor, " sample"]
Mixed = Float[Tensor, "sample classes"]
EPSILON = 1e-12


Base = Literal["kd", "dkd", "dist", "reviewkd", "none"]
WEIGHTS: dict[str, dict[str, tuple[float, ...]]] = {
    "resnet56-resnet20": {"kd": (1, 2), "dkd": (2.5, 4, 3.5), "dist": (2, 1), "reviewkd": (1.2, 1)},
    "resnet32x4-resnet8x4": {"kd": (3.5, 2), "dkd": (2, 8, 0.5), "dist": (1.5, 4), "reviewkd": (8, 1)},
    "wrn40_2-wrn40_1": {"kd": (1, 1.5), "dkd": (1, 6, 1), "dist": (2.5, 3), "reviewkd": (5, 4)},
    "resnet50-mobilenetv2": {"kd": (3, 0.5), "dkd": (0.5, 8, 1), "dist": (7, 1), "reviewkd": (6, 2)},
    "resnet32x4-shufflenetv1": {"kd": (2.5, 1.5), "dkd": (0.5, 8, 4), "dist": (2.5, 3), "reviewkd": (7, 1)},
    "resnet32x4-shufflenetv2": {"kd": (4, 0.5), "dkd": (0.5, 6, 0.5), "dist": (3, 4), "reviewkd": (8, 1.5)},
    "resnet34-resnet18": {"kd": (2.5, 1), "dkd": (0.8, 0.5, 1), "reviewkd": (1, 3)},
    "resnet50-resnet18": {"kd": (4, 1), "dkd": (0.6, 0.5, 2), "reviewkd": (3, 2)},
    "resnet101-resnet18": {"kd": (3.5, 4), "dkd": (0.8, 0.5, 1), "reviewkd": (3, 1)},
    "resnet152-resnet18": {"kd": (4, 2), "dkd": (1, 1, 1), "reviewkd": (3, 1)},
    "vit_s-resnet18": {"kd": (1.5, 1)},
    "vit_b-resnet18": {"kd": (2, 1)},
    "resnet50-mobilenetv1": {"kd": (4, 1), "dkd": (0.8, 1, 1), "reviewkd": (8, 4)},
    "regnety160-deit_b": {"kd": (0.5, 1.5)},
}
"""Weights of the base (of dkd α and β) and of ND by pair; those of ImageNet from resnet34 on, the last one DeiT's. The
authors' page has a direction of 2 for dkd from resnet101, and a script's body (6, 1) for reviewkd to mobilenetv1."""


@dataclass(frozen=True, kw_only=True)
class ND(Distillation):
    """Turn and lengthen features towards the teacher's class means (Wang et al., arXiv 2023, arXiv:2305.17007).

    L = CE + λ w(e) L_base + λ_nd L_nd: KD++, DKD++, DIST++ and ReviewKD++ by `base`, or the direction alone. ND is not
    warmed up. Class means are taken in one pass, the teacher in evaluation.
    """

    base: Base = "kd"
    """What it is added to."""
    base_weight: Annotated[float, Range(0)] = 1.0
    """Weight λ of that (for dkd of both its parts)."""
    direction_weight: Annotated[float, Range(0)] = 1.0
    """Weight λ_nd of feature norm and direction (0.5 to 4 by pair in the paper)."""
    temperature: Annotated[float, Range(0.01)] = 4.0
    """Temperature that softens answers, T, in kd and dkd (1 on ImageNet)."""
    alpha: Annotated[float, Range(0)] = 1.0
    """Weight α of the right class, in dkd."""
    beta: Annotated[float, Range(0)] = 2.0
    """Weight β of the ranking of the others, in dkd."""
    projector_dropout: Annotated[float, Range(0, 1)] = 0.5
    """Dropout before the projector, where features have other sizes."""
    means_of: Literal["images", "views"] = "images"
    """Whether class means are of the training images as they are, or of one view of each (the released code has them
    augmented)."""
    centred: bool = False
    """Whether the mean of the class means is taken off first; an experiment of ours."""

    name = "nd"
    remembers = True

    @property
    def uses_stages(self) -> bool:  # type: ignore[override]
        """Where the base does."""
        return self.base == "reviewkd"

    @property
    def hard_labels(self) -> bool:  # type: ignore[override]
        """Where the base does: of mixed images the class means are mixed as their labels are."""
        return self.base == "dkd"

    @property
    def added_to(self) -> Distillation | None:
        """The base with these settings."""
        shared = {name: getattr(self, name) for name in Distillation.__dataclass_fields__}
        if self.base == "kd":
            return KD(**{**shared, "label_weight": 0.0}, teacher_weight=self.base_weight, temperature=self.temperature)
        if self.base == "dkd":
            return DKD(**shared, alpha=self.alpha, beta=self.beta, temperature=self.temperature)
        if self.base == "dist":
            return DIST(**shared)
        return ReviewKD(**shared) if self.base == "reviewkd" else None

    def connectors(self, student: Answers, teacher: Answers) -> dict[str, nn.Module]:
        """The base's, and a projector where sizes differ."""
        parts = {} if self.added_to is None else self.added_to.connectors(student, teacher)
        have, want = student.embedding.shape[1], teacher.embedding.shape[1]
        return parts | ({} if have == want else {"projector": Projector(have, want, self.projector_dropout)})

    @torch.no_grad()
    def memory_from(self, samples: Samples) -> "Directions":
        """The class means' directions, in one pass of the teacher."""
        if samples.teacher is None:
            raise InputError("nd needs a teacher, whose class means the student turns to.")
        means = None
        for inputs, labels in samples.batches(moved=self.means_of == "views"):
            said = samples.teacher(inputs).embedding.float()
            means = means or ClassMeans.empty(samples.classes, said.shape[1])
            means.add(said.cpu(), labels.cpu())
        if means is None:
            raise InputError("there is nothing to take class means of.")
        units, lengths = means.directions(centred=self.centred), means.means(centred=self.centred).norm(dim=1)
        return Directions(units.to(samples.device), lengths.float().to(samples.device))

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The base's terms, warmed up, and the direction's."""
        found = {} if self.added_to is None else self.added_to.terms(batch, state)
        already = self.base in ("dkd", "reviewkd")  # which warm up by themselves
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
        """The settings of one cell of the paper's tables, as its scripts have them.

        Those have Nesterov's momentum, on CIFAR-100 batches of 128, epochs counted from 0 in the warm-up, and class
        means of augmented images. Of regnety160-deit_b only epochs, batch and weights are known: the rest is DeiT's,
        with the temperature of the other ImageNet rows.

        Args:
            pair: Teacher and student, such as resnet56-resnet20.
            base: kd, dkd, dist (CIFAR-100 only) or reviewkd.

        Raises:
            InputError: A pair or base that the tables do not have.
        """
        given, row = dict(schedule(pair)), row_of(WEIGHTS, pair, "ND")
        if base not in row:
            raise unknown(f"base in ND's table of {pair}", base, row)
        if not of_imagenet(pair):
            given |= {"batch": 128, "lr": 0.02 if given["lr"] == 0.01 else 0.1}
        elif pair not in DEIT_PAIRS:
            given["warm_up"] = 0.05
        given |= {"nesterov": pair not in DEIT_PAIRS, "warm_from": 0, "means_of": "views"}
        given["temperature"] = 1.0 if of_imagenet(pair) else 4.0
        if base == "dkd":
            alpha, beta, direction = row[base]
            return cls(**given, base=base, alpha=alpha, beta=beta, direction_weight=direction)
        if base == "reviewkd":
            given["teacher_layers"] = (BEFORE,)
            given["student_layers"] = (BEFORE,) if pair in IMAGENET_PAIRS else ()
        weight, direction = row[base]
        return cls(**given, base=base, base_weight=weight, direction_weight=direction)


@dataclass
class Directions:
    """What ND remembers: a unit vector for every class."""

    units: Tensor
    lengths: Tensor
    """Those of the class means, which are mixed where images are."""

    @property
    def means(self) -> Tensor:
        """The class means."""
        return self.units * self.lengths[:, None]


class Projector(nn.Sequential):
    """The student's features at the teacher's size, for the loss alone: batch norm, dropout, a linear map."""

    def __init__(self, student: int, teacher: int, dropout: float = 0.5) -> None:
        super().__init__(nn.BatchNorm1d(student), nn.Dropout(dropout), nn.Linear(student, teacher))


def nd_loss(
    student: Embedding, teacher: Embedding, labels: Labels | Mixed, directions: Float[Tensor, "classes feature"]
) -> Scalar:
    """1 - ⟨g, e_y⟩ / max(‖g‖, ‖f_t‖), averaged over samples: from 0 to 2.

    While g is shorter than the teacher's feature its gradient is the constant -e_y / ‖f_t‖, which lengthens it towards
    its class; beyond that the loss is 1 - cos(g, e_y), which turns it and leaves its length alone.

    Args:
        student: The student's features g, before its last layer, through a `Projector` where sizes differ.
        teacher: The teacher's features f_t of the same samples.
        labels: The classes y; or, where images are mixed, each class's share, by which class means are mixed too.
        directions: Unit vectors e (see `ClassMeans.directions`); for mixed labels the class means themselves.
    """
    return nd_losses(student, teacher, labels, directions).mean()


def nd_losses(
    student: Embedding, teacher: Embedding, labels: Labels | Mixed, directions: Float[Tensor, "classes feature"]
) -> Float[Tensor, " sample"]:
    """The same of each sample."""
    if labels.is_floating_point():
        units = F.normalize(labels.to(directions.dtype) @ directions, dim=1)
    else:
        units = directions[labels]
    longest = torch.maximum(student.norm(dim=1), teacher.detach().norm(dim=1)).clamp(min=EPSILON)
    return 1 - (student * units).sum(dim=1) / longest


@dataclass
class ClassMeans:
    """The mean feature of each class, gathered in one pass, which may stop and go on."""

    sums: Float[Tensor, "classes feature"]
    counts: Int[Tensor, " classes"]

    @classmethod
    def empty(cls, classes: int, features: int) -> Self:
        """Nothing gathered yet; sums are kept in double precision."""
        return cls(torch.zeros(classes, features, dtype=torch.float64), torch.zeros(classes, dtype=torch.long))

    @torch.no_grad()
    def add(self, features: Embedding, labels: Labels) -> None:
        """Gather a batch of any size; what has a label below zero is left out.

        Raises:
            InputError: A label that is of no class.
        """
        known = labels >= 0
        features, labels = features[known].double().cpu(), labels[known].cpu()
        if len(labels) and int(labels.max()) >= len(self.counts):
            raise InputError(f"label {int(labels.max())} is of none of {len(self.counts)} classes, numbered from 0.")
        self.sums.index_add_(0, labels, features)
        self.counts += torch.bincount(labels, minlength=len(self.counts))

    def save(self, path: str | Path, teacher: nn.Module, preprocessing: Any) -> None:
        """Write what was gathered to a safetensors file, with a digest of what it was gathered by.

        Args:
            path: The file.
            teacher: Whose features they are.
            preprocessing: What images go through before it, as plain values: sizes, mean and spread, augmentation.
        """
        made_by = store.digest_of(teacher.state_dict(), preprocessing)
        store.write_tensors(Path(path), {"sums": self.sums, "counts": self.counts}, {"made_by": made_by})

    @classmethod
    def load(cls, path: str | Path, teacher: nn.Module, preprocessing: Any) -> Self:
        """Read what `save` wrote, by the same teacher and preprocessing.

        Raises:
            InputError: No such file, a damaged one, or one of another teacher or preprocessing.
        """
        tensors, facts = store.read_tensors(Path(path))
        if facts.get("made_by") != store.digest_of(teacher.state_dict(), preprocessing):
            raise InputError(f"{path} holds class means of another teacher or preprocessing; gather them anew.")
        return cls(tensors["sums"], tensors["counts"])

    def means(self, *, centred: bool = False) -> Float[Tensor, "classes feature"]:
        """The means, as raw as the features; less their own mean, where asked (an experiment of ours).

        Raises:
            InputError: A class of which nothing was gathered.
        """
        if not self.counts.all():
            missing = (self.counts == 0).nonzero().flatten().tolist()
            raise InputError(f"no sample of class {', '.join(map(str, missing))}: its mean feature cannot be taken.")
        means = self.sums / self.counts[:, None]
        return means - means.mean(dim=0) if centred else means

    def directions(self, *, centred: bool = False) -> Float[Tensor, "classes feature"]:
        """The means at length one.

        Raises:
            InputError: A class without samples, or whose mean is zero.
        """
        means = self.means(centred=centred)
        lengths = means.norm(dim=1)
        if (lengths < EPSILON).any():
            raise InputError(f"the mean feature of class {int(lengths.argmin())} is zero; it has no direction.")
        return F.normalize(means, dim=1).float()
