"""CRD: the student's embedding of a sample should match the teacher's, against thousands of other samples.

The embeddings of every sample by both networks are remembered, so memory grows with the data set and not with the
batch. Tian, Krishnan and Isola, Contrastive Representation Distillation, ICLR 2020, arXiv:1910.10699.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.classifiers.distillation import Distillation
from attar.classifiers.kd import Scalar, kd_loss
from attar.classifiers.pair import Batch, Distilling, Pair, Samples, Terms
from attar.classifiers.watched import Answers
from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.settings import Range
from attar.core.state import rebuilt

Unit = Float[Tensor, "sample feature"]
Rows = Int[Tensor, " sample"]
Drawn = Int[Tensor, "sample negative"]
GATHER_ABOVE = 32
"""Ratio of memory size to candidates from which reading out the candidates is faster than multiplying by all rows."""


@dataclass(frozen=True, kw_only=True)
class CRD(Distillation):
    """Contrast the student's embeddings with the teacher's (Tian, Krishnan and Isola, ICLR 2020, arXiv:1910.10699).

    L = CE + w L_crd. In both directions, L_crd tells the remembered embedding of the same sample apart from K
    embeddings of
    samples of other classes.
    """

    weight: Annotated[float, Range(0)] = 0.8
    """Weight of the method's term, the contrast."""
    features: Annotated[int, Range(2)] = 128
    """Size of the embeddings."""
    negatives: Annotated[int, Range(1)] | None = None
    """Number K of negative samples. Default: a quarter of the images, at most 4,096. The paper's 16,384 are a third of
    CIFAR-100."""
    contrast_temperature: Annotated[float, Range(0.001)] = 0.07
    """Temperature τ of the contrast."""
    memory_momentum: Annotated[float, Range(0, 1)] = 0.5
    """Share of the remembered embedding that stays when it is updated."""
    teacher_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the teacher's answers beside the contrast. 1 gives CRD+KD."""
    temperature: Annotated[float, Range(0.01)] = 4.0
    """Temperature that softens answers, T."""

    name = "crd"
    hard_labels = True
    features_of = ("student", "teacher")
    remembers = remembers_rows = True

    def resolve(self, pair: Pair, runtime: Runtime) -> Self:
        """Fill in K."""
        found = super().resolve(pair, runtime)
        return found.of(found.images)

    def of(self, images: int) -> Self:
        """The same settings for a training set of `images` samples, with K filled in."""
        usual = max(1, min(images // 4, 4096))
        return dataclasses.replace(super().of(images), negatives=self.negatives or usual)

    def connectors(self, student: Answers, teacher: Answers) -> dict[str, nn.Module]:
        """The linear maps of both networks to the embedding; both are trained."""
        sides = {"student": student, "teacher": teacher}
        return {name: Embed(said.embedding.shape[1], self.features) for name, said in sides.items()}

    def memory_from(self, samples: Samples) -> "Memory":
        """The memory, with a row for every sample."""
        memory = Memory.fresh(self.images, self.features, samples.generator())
        return memory.of(samples.labels()).to(samples.device)

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The contrast. The new embeddings are remembered after the gradient of the step has been computed."""
        given = state.parts["student"](batch.student.embedding)
        wanted = state.parts["teacher"](batch.teacher.embedding)
        assert self.negatives is not None, "resolve the settings first"
        draw = torch.Generator().manual_seed(derived_seed(state.done, "negatives"))
        drawn = draw_negatives(state.memory.labels, batch.rows, self.negatives, draw)
        rows = batch.rows.to(given.device)
        loss = crd_loss(
            given, wanted, rows, drawn.to(given.device), state.memory, temperature=self.contrast_temperature
        )
        state.memory.said = rows, given.detach(), wanted.detach()
        terms = {"contrast": self.weight * loss}
        if self.teacher_weight:
            answers = kd_loss(batch.student.logits, batch.teacher.logits, self.temperature)
            terms["teacher"] = self.teacher_weight * answers
        return terms

    def settle(self, state: Distilling) -> None:
        """Update the memory."""
        state.memory.settle(self.memory_momentum)

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of the method's own benchmark.

        Args:
            data: cifar100, cifar100-kd (with the teacher's softened outputs at weight 1), or a pair of the benchmark. A
                pair sets the student too.

        Raises:
            InputError: Another data set or pair.
        """
        return published(cls, data)


class Embed(nn.Linear):
    """A linear map whose output has length one."""

    def forward(self, features: Float[Tensor, "sample input"]) -> Unit:
        """The embedding of pooled features."""
        return F.normalize(super().forward(features), dim=1)


@dataclass
class Memory:
    """The last embeddings of every sample by both networks, and the constants Z by which scores are divided."""

    student: Float[Tensor, "example feature"]
    teacher: Float[Tensor, "example feature"]
    constants: Float[Tensor, "2"]
    """Constants of the student's and the teacher's anchors. They are negative until the first batch sets them."""
    labels: Rows = rebuilt(default=None)
    """Classes of the samples, on the CPU. Negatives are drawn from other classes."""
    said: Any = rebuilt(default=None)
    """Rows and embeddings of this step, which are not remembered yet."""

    @classmethod
    def fresh(cls, examples: int, features: int, generator: torch.Generator) -> Self:
        """A memory with entries uniform in ±1 / √(features / 3)."""
        bound = 1 / math.sqrt(features / 3)
        banks = [torch.empty(examples, features).uniform_(-bound, bound, generator=generator) for _ in range(2)]
        return cls(banks[0], banks[1], torch.full((2,), -1.0))

    def of(self, labels: Rows) -> Self:
        """The same memory for samples with these labels."""
        return dataclasses.replace(self, labels=labels)

    def to(self, device: torch.device) -> Self:
        """The same memory on a device."""
        banks = self.student.to(device), self.teacher.to(device)
        return type(self)(*banks, self.constants.to(device), self.labels)

    def settle(self, momentum: float = 0.5) -> None:
        """Remember the embeddings of this step, when its gradient has been computed."""
        if self.said is not None:
            rows, student, teacher = self.said
            self.remember(rows, student, teacher, momentum)
            self.said = None

    @torch.no_grad()
    def remember(self, rows: Rows, student: Unit, teacher: Unit, momentum: float = 0.5) -> None:
        """Move the remembered embeddings of these samples towards the new ones, and back to unit length."""
        for bank, said in ((self.student, student), (self.teacher, teacher)):
            bank[rows] = F.normalize(momentum * bank[rows] + (1 - momentum) * said, dim=1)


def contrast(scores: Float[Tensor, "sample candidate"], negatives: int, examples: int) -> Scalar:
    """-log h(positive) - Σ log(1 - h(negative)) with h(g) = g / (g + K / N), averaged over samples.

    Args:
        scores: g = exp(⟨anchor, remembered⟩ / τ) / Z of the positive (first column), then of K negatives.
        negatives: K.
        examples: N, the number of remembered samples.
    """
    noise = negatives / examples
    positive, others = scores[:, 0], scores[:, 1:]
    return (torch.log1p(noise / positive) + torch.log1p(others / noise).sum(dim=1)).mean()


def crd_loss(
    student: Unit, teacher: Unit, rows: Rows, drawn: Drawn, memory: Memory, *, temperature: float = 0.07
) -> Scalar:
    """The sum of both directions: student anchors against remembered teacher embeddings, and the reverse.

    Args:
        student: The student's embeddings of the batch.
        teacher: The teacher's embeddings of the batch, from a linear map that is trained too.
        rows: Numbers of the samples.
        drawn: For each sample, the numbers of K samples of other classes.
        memory: The remembered embeddings; the first batch sets its constants. The caller has to remember the new
            embeddings after this call.
        temperature: τ.
    """
    examples, negatives = len(memory.student), drawn.shape[1]
    candidates = torch.cat([rows[:, None], drawn], dim=1)
    total = student.new_zeros(())
    for direction, (anchor, bank) in enumerate(((student, memory.teacher), (teacher, memory.student))):
        scores = products(anchor, bank, candidates).div(temperature).exp()
        if memory.constants[direction] < 0:
            memory.constants[direction] = examples * scores.detach().mean()
        total = total + contrast(scores / memory.constants[direction].clone(), negatives, examples)
    return total


def products(
    anchor: Unit, bank: Float[Tensor, "example feature"], candidates: Tensor
) -> Float[Tensor, "sample candidate"]:
    """⟨anchor, bank[candidate]⟩.

    All rows of the bank are multiplied if that is less work than reading candidates out.
    """
    if len(bank) <= GATHER_ABOVE * candidates.shape[1]:
        return (anchor @ bank.T).gather(1, candidates)
    return torch.einsum("sf,scf->sc", anchor, bank[candidates])


def draw_negatives(labels: Int[Tensor, " example"], rows: Rows, many: int, generator: torch.Generator) -> Drawn:
    """For each of some samples, draw the numbers of `many` samples of other classes.

    No sample is drawn twice for the same one, unless there are fewer than `many` of other classes: then samples are
    drawn with replacement.
    """
    order = labels.argsort(stable=True)
    counts = labels.bincount()
    ends = counts.cumsum(0)
    mine = labels[rows]
    others = len(labels) - counts[mine]
    place = torch.stack([_places(count, many, generator) for count in others.tolist()])
    start = (ends - counts)[mine][:, None]
    return order[place + (place >= start) * counts[mine][:, None]]


def _places(count: int, many: int, generator: torch.Generator) -> Int[Tensor, " negative"]:
    if not count:
        raise InputError("crd contrasts samples of different classes, but all samples are of one class.")
    if many > count:
        return torch.randint(count, (many,), generator=generator)
    return torch.randperm(count, generator=generator)[:many]
