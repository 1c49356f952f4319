"""What the distillation of a classifier holds: its two networks and data, a step's samples, and what is learned."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from attar.classifiers.selection import Best
from attar.classifiers.teacher import AnswersOfViews
from attar.classifiers.views import Labels, Rows, View
from attar.classifiers.watched import Answers, Watched
from attar.core import store
from attar.core.state import rebuilt
from attar.images.sources import ImageSource

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Pair:
    """What a student is made from: labelled images, a teacher of their classes, and the student if it is given."""

    source: ImageSource
    teacher: nn.Module | None = None
    student: nn.Module | None = None
    whole: ImageSource | None = None
    """All the data, where training images are held out of `source`."""

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the images, the teacher's parameters and those a given student begins with."""
        tensors: dict[str, Tensor] = {}
        for name, network in (("teacher", self.teacher), ("student", self.student)):
            if network is not None:
                tensors |= {f"{name}/{key}": value for key, value in network.state_dict().items()}
        return store.digest_of(tensors, {"data": self.source.fingerprint})

    @property
    def data(self) -> ImageSource:
        """The data as they were given."""
        return self.source if self.whole is None else self.whole

    @property
    def name(self) -> str:
        """The data's."""
        return self.source.name

    def __str__(self) -> str:
        return str(self.source)


@dataclass
class Batch:
    """One step's samples, and what both networks say of them."""

    student: Answers
    teacher: Answers
    labels: Labels
    rows: Rows
    """Which training images they are."""
    warm: float
    """How much a term counts that is warmed up: min(1, epoch / warm-up)."""
    progress: float = 0.0
    """Share of the run that lies behind this step."""

    def __post_init__(self) -> None:
        self.student, self.teacher = _in_full(self.student), _in_full(self.teacher)


class Samples(ABC):
    """The training samples, as a method may look at them once before the first step."""

    teacher: Watched | None
    classes: int
    device: torch.device

    @abstractmethod
    def labels(self) -> Labels:
        """Of all samples, by number; on the CPU."""

    @abstractmethod
    def batches(self, *, moved: bool) -> Iterator[tuple[Any, Tensor]]:
        """Inputs and labels of all samples once: as the student sees them at first, where they are `moved`."""

    @abstractmethod
    def generator(self) -> torch.Generator:
        """For what is drawn before the first step."""


@dataclass
class Distilling:
    """A student on its way, and what is learned and remembered beside it."""

    student: nn.Module
    parts: nn.ModuleDict
    """Connectors and further heads; dropped in the end."""
    optimizer: torch.optim.Optimizer
    memory: Any = None
    """A dataclass of tensors, where the method remembers something."""
    done: int = 0
    best: Best | None = None
    """The student of the best epoch so far, where not the last one is kept."""
    pair: Pair = rebuilt(default=None)
    watched: Watched = rebuilt(default=None)
    answers: AnswersOfViews | None = rebuilt(default=None)
    order: Tensor = rebuilt(default=None)
    view: View = rebuilt(default=None)

    @property
    def kept(self) -> nn.Module:
        """The student that is to be kept: the best so far, or as it is now."""
        return self.best.network if self.best and self.best.epoch else self.student

    def learned(self) -> Iterator[nn.Parameter]:
        """Parameters of the student, then of its connectors."""
        yield from self.student.parameters()
        yield from self.parts.parameters()


def _in_full(answers: Answers) -> Answers:
    """The same in single precision or better: under autocast a network answers in less, and connectors do not."""
    tensors = [answers.logits, answers.embedding, *answers.stages]
    logits, embedding, *stages = [tensor.float() if tensor.itemsize < 4 else tensor for tensor in tensors]
    return Answers(logits, embedding, stages)
