"""The parts of a classifier's distillation: two networks, the data, the samples of a step, and the trained modules."""

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
from attar.core.precision import at_least_float32
from attar.core.sharing import WHOLE, Share
from attar.core.state import rebuilt
from attar.images.networks.pretrained import facts_of
from attar.images.sources import ImageSource

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Pair:
    """The input of a distillation: labelled images, a teacher for their classes, and the student if one is given."""

    source: ImageSource
    teacher: nn.Module | None = None
    student: nn.Module | None = None
    whole: ImageSource | None = None
    """All data, if training images are held out of `source`."""

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the images, the teacher's parameters, and the initial parameters of a given student."""
        tensors: dict[str, Tensor] = {}
        facts: dict[str, Any] = {"data": self.source.fingerprint}
        for name, network in (("teacher", self.teacher), ("student", self.student)):
            if network is not None:
                tensors |= {f"{name}/{key}": value for key, value in network.state_dict().items()}
                facts |= {name: seen} if (seen := facts_of(network)) else {}
        return store.digest_of(tensors, facts)

    @property
    def data(self) -> ImageSource:
        """The data as they were given."""
        return self.source if self.whole is None else self.whole

    @property
    def name(self) -> str:
        """The name of the data."""
        return self.source.name

    def __str__(self) -> str:
        return str(self.source)


@dataclass
class Batch:
    """The samples of one step, and both networks' outputs for them."""

    student: Answers
    teacher: Answers
    labels: Labels
    rows: Rows
    """Numbers of the training images."""
    warm: float
    """Weight of a term that is warmed up: min(1, epoch / warm-up)."""
    progress: float = 0.0
    """Share of the run that is done before this step."""
    branches: Tensor | None = None
    """The student's logits under each of several masks of dropout, `[masks, sample, classes]`."""
    epoch: int = 0
    """Number of the epoch, from zero, and the seed of the run: for what is drawn anew every few epochs."""
    seed: int = 0

    def __post_init__(self) -> None:
        self.student, self.teacher = _in_full(self.student), _in_full(self.teacher)
        if self.branches is not None:
            self.branches = at_least_float32(self.branches)


class Samples(ABC):
    """The training samples, which a method may read once before the first step."""

    teacher: Watched | None
    classes: int
    device: torch.device

    @abstractmethod
    def labels(self) -> Labels:
        """The labels of all samples in order, on the CPU."""

    @abstractmethod
    def batches(self, *, moved: bool) -> Iterator[tuple[Any, Tensor]]:
        """Inputs and labels of all samples once. If `moved`, as the student first sees them."""

    @abstractmethod
    def generator(self) -> torch.Generator:
        """The generator of everything that is drawn before the first step."""


@dataclass
class Distilling:
    """A student in training, with the modules and the memory beside it."""

    student: nn.Module
    parts: nn.ModuleDict
    """Connectors and further heads, which are dropped at the end."""
    optimizer: torch.optim.Optimizer
    memory: Any = None
    """A dataclass of tensors, if the method has a memory."""
    done: int = 0
    best: Best | None = None
    """The student of the best epoch so far, if the best one is kept."""
    pair: Pair = rebuilt(default=None)
    watched: Watched = rebuilt(default=None)
    answers: AnswersOfViews | None = rebuilt(default=None)
    order: Tensor = rebuilt(default=None)
    view: View = rebuilt(default=None)
    share: Share = rebuilt(default=WHOLE)
    """The rows of the batch that this process works on."""

    @property
    def kept(self) -> nn.Module:
        """The student to keep: the best so far, or the current one."""
        return self.best.network if self.best and self.best.epoch else self.student

    def learned(self) -> Iterator[nn.Parameter]:
        """The parameters of the student, then of its connectors."""
        yield from self.student.parameters()
        yield from self.parts.parameters()


def _in_full(answers: Answers) -> Answers:
    """The outputs in single precision or better. Under autocast a network gives less, but connectors do not."""
    tensors = [answers.logits, answers.embedding, *answers.stages]
    logits, embedding, *stages = map(at_least_float32, tensors)
    return Answers(logits, embedding, stages)
