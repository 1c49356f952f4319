"""The loop that all distillation of classifiers shares: one student, a teacher's answers, SGD on a sum of terms.

A method says what its terms are, and which modules it learns beside the student; those are checkpointed with the
student and dropped from the result. What a teacher says of a view that comes again is computed once.
"""

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.classifiers.artefact import DistilledClassifier, Origin
from attar.classifiers.pair import Batch, Distilling, Pair, Terms
from attar.classifiers.recipe import Recipe
from attar.classifiers.schedules import row_of, schedule, teacher_of
from attar.classifiers.selection import Best, parted, score_held_out
from attar.classifiers.teacher import AnswersOfViews
from attar.classifiers.views import order_of
from attar.classifiers.watched import Answers, Watched
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.settings import Range
from attar.images.networks.architecture import Architecture, multiply_adds, parse
from attar.images.networks.pretrained import PREFIX, network_named
from attar.images.sources import ImageSource


@dataclass(frozen=True, kw_only=True)
class Distillation(Recipe):
    """Settings and loop of the methods that distill a classifier into a student."""

    label_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the cross-entropy with the labels."""
    smoothing: Annotated[float, Range(0, 1)] = 0.0
    """How much of a label is spread over all classes."""
    student_layers: tuple[str, ...] = ()
    """Modules of the student whose outputs are its stages, shallow to deep, or their inputs (input:NAME, such as the
    last activation of a block, for maps before it); attar's own networks show theirs."""
    teacher_layers: tuple[str, ...] = ()
    """The teacher's, as many."""

    name = "distillation"
    kind = "classifiers"
    needs_teacher = True
    teacher_of = staticmethod(teacher_of)
    uses_stages = False
    """Whether the method looks at maps, which are stored only where they fit."""
    compares_samples = False
    """Whether a batch has to have two samples, which it compares."""
    hard_labels = False
    """Whether the method needs one class for each image, which a mixed one has not."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hard_labels and (self.mixup or self.cutmix):
            raise InputError(f"{self.name} needs one class for each image; leave out mixup and cutmix.")

    # ------------------------------------------------------------------------------------------ what a method fills in

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The method's terms, weighed, that are added to the labels'."""
        return {}

    def connectors(self, student: Answers, teacher: Answers) -> dict[str, nn.Module]:
        """The modules that are learned beside the student, made by what the two networks say of two images."""
        return {}

    def remember(self, state: Distilling, runtime: Runtime) -> Any:
        """What the method remembers, before the first step."""
        return None

    def label_term(self, batch: Batch) -> Float[Tensor, ""]:
        """The labels' cross-entropy, weighed."""
        return self.label_weight * F.cross_entropy(batch.student.logits, batch.labels, label_smoothing=self.smoothing)

    def outputs(self, source: ImageSource) -> int:
        """How many logits the student has."""
        return len(source.classes)

    def loss_terms(self, batch: Batch, state: Distilling) -> Terms:
        """All terms of a step: the labels', where they count, and the method's."""
        return ({"labels": self.label_term(batch)} if self.label_weight else {}) | self.terms(batch, state)

    def total(self, terms: Terms, state: Distilling) -> Float[Tensor, ""]:
        """The sum; what a method does to gradients is in the gradient of this number.

        Raises:
            InputError: There is nothing to sum.
        """
        if not terms:
            raise InputError(f"nothing is left for the student to learn from; give a term of {self.name} a weight.")
        return torch.stack(list(terms.values())).sum()

    def descend(self, terms: Terms, state: Distilling) -> Tensor:
        """The gradient of the sum; the loss."""
        loss = self.total(terms, state)
        loss.backward()
        return loss.detach()

    def order(self, epoch: int, source: ImageSource, seed: int) -> Int[Tensor, " image"]:
        """The images of an epoch, in order."""
        return order_of(seed, epoch, self.images)

    def further_scores(self, teacher: nn.Module, source: ImageSource, runtime: Runtime) -> dict[str, float]:
        """What else is known of a teacher when its student is done."""
        return {}

    # --------------------------------------------------------------------------------------------------------- the run

    def trained_on(self, pair: Pair, runtime: Runtime) -> Pair:
        """The pair without the training images on which an epoch is chosen.

        Raises:
            InputError: A share that holds nothing out, or leaves nothing of a class.
        """
        if self.keep == "last":
            return pair
        return dataclasses.replace(pair, source=parted(pair.source, self.held_out, runtime.seed), whole=pair.source)

    def resolve(self, pair: Pair, runtime: Runtime) -> Self:
        """Fill in what was left open.

        Raises:
            InputError: A student that is not there, or a network that does not take the images.
        """
        for who, network in (("teacher", pair.teacher), ("student", pair.student)):
            if network is not None:
                device = next(network.parameters()).device
                Watched(network).tried(pair.source.shape, device, who)
        if pair.student is None and not self.student.startswith(PREFIX):
            parse(self.student)
        return self.fitted_to(self.trained_on(pair, runtime).source)

    def work(self, pair: Pair) -> float:
        """Three passes of the student and one of the teacher, of every image of every epoch."""
        student = multiply_adds(self._student(pair, torch.Generator()), pair.source.shape)
        teacher = 0 if pair.teacher is None else multiply_adds(pair.teacher, pair.source.shape)
        return float(3 * student + teacher) * self.images * self.epochs

    def _student(self, pair: Pair, generator: torch.Generator) -> nn.Module:
        if pair.student is not None:
            return copy.deepcopy(pair.student)
        kind = network_named(self.student)
        if isinstance(kind, Architecture):
            return kind.build(pair.source.shape, self.outputs(pair.source), generator)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return kind(pair.source.shape, self.outputs(pair.source))

    def build(self, pair: Pair, runtime: Runtime) -> Distilling:
        """A fresh student, its connectors, and the teacher's answers.

        Raises:
            InputError: Teacher and student do not fit the data or one another.
        """
        pair = self.trained_on(pair, runtime)
        student = runtime.place(self._student(pair, runtime.generator("network"))).train()
        watched = Watched(student, self.student_layers)
        mine = watched.tried(pair.source.shape, runtime.device, "student")
        answers, theirs = None, mine
        if pair.teacher is not None and self.needs_teacher:
            teacher = runtime.place(copy.deepcopy(pair.teacher)).eval().requires_grad_(False)
            answers = AnswersOfViews(Watched(teacher, self.teacher_layers), pair.source, self, runtime)
            theirs = answers.watched.tried(pair.source.shape, runtime.device, "teacher")
        self.check(mine, theirs, pair.source)
        parts = nn.ModuleDict(_seeded(lambda: self.connectors(mine, theirs), runtime)).to(runtime.device).train()
        state = Distilling(student, parts, torch.optim.SGD([nn.Parameter(torch.zeros(()))]), pair=pair, watched=watched)
        state.optimizer = self.optimizer_of(list(state.learned()))
        state.answers = answers
        state.best = None if self.keep == "last" else Best(copy.deepcopy(student))
        state.memory = self.remember(state, runtime)
        return state

    def check(self, student: Answers, teacher: Answers, source: ImageSource) -> None:
        """See that the two networks tell the classes of the data apart, and show the maps that are compared.

        Raises:
            InputError: One of them does not.
        """
        for who, answers in (("student", student), ("teacher", teacher)):
            if answers.logits.shape[1] != self.outputs(source):
                raise InputError(
                    f"the {who} gives {answers.logits.shape[1]} logits, but {source.name} has "
                    f"{self.outputs(source)} classes."
                )
            if not answers.logits.isfinite().all():
                raise InputError(f"the {who}'s logits for a black image are not finite.")
        self.check_pair(student, teacher)

    def check_pair(self, student: Answers, teacher: Answers) -> None:
        """See that the method has what it compares: as many maps of both networks, where it looks at maps.

        Raises:
            InputError: It has not.
        """
        if not self.uses_stages:
            return
        if len(student.stages) != len(teacher.stages):
            raise InputError(
                f"the student shows {len(student.stages)} stages and the teacher {len(teacher.stages)}; name as many "
                "layers of each (--student-layers, --teacher-layers)."
            )
        if not student.stages:
            raise InputError(f"{self.name} compares maps; name layers (--student-layers, --teacher-layers).")
        _ = student.shapes, teacher.shapes

    def step(self, state: Distilling, runtime: Runtime) -> Metrics:
        """One mini-batch."""
        epoch, number = divmod(state.done, self.batches)
        if number == 0 or state.order is None:
            self._begin_epoch(epoch, state, runtime)
        rows = state.order[number * self.batch :][: self.batch]
        source = state.pair.source
        images = state.view.seen(source.inputs, rows, runtime.device)
        images = images.contiguous(memory_format=runtime.memory_format)
        with runtime.autocast(training=True), self._drawing(state, runtime):
            said = state.watched(images)
        batch = Batch(
            student=said,
            teacher=state.answers(images, rows, self.view_of(epoch)) if state.answers else said,
            labels=state.view.labels(source.targets, rows, len(source.classes)).to(runtime.device),
            rows=rows,
            warm=self.warmth(epoch),
            progress=state.done / self.total_steps,
        )
        state.optimizer.zero_grad(set_to_none=True)
        with self._drawing(state, runtime, "terms"):
            terms = self.loss_terms(batch, state)
        loss = self.descend(terms, state)
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(list(state.learned()), self.clip)
        state.optimizer.step()
        state.done += 1
        if state.best is not None and state.done % self.batches == 0:
            source, group = state.pair.source, self.group_of(self.outputs(state.pair.source))
            found = score_held_out(state.student, source, runtime, group, self.keep)
            state.best.see(state.student, epoch + 1, found)
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}

    @contextmanager
    def _drawing(self, state: Distilling, runtime: Runtime, what: str = "student") -> Iterator[None]:
        """PyTorch's global generator, from which dropout draws, seeded by the step and left as it was."""
        seed = derived_seed(runtime.seed, f"{what} {state.done}")
        gpus = [runtime.device] if runtime.device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus):
            # Not torch.manual_seed: without a GPU that notes each call, with its whole stack, for one that may come.
            torch.default_generator.manual_seed(seed)
            for gpu in gpus:
                with torch.cuda.device(gpu):
                    torch.cuda.manual_seed(seed)
            yield

    def _begin_epoch(self, epoch: int, state: Distilling, runtime: Runtime) -> None:
        state.order = self.order(epoch, state.pair.source, runtime.seed)
        state.view = self.drawn_view(self.view_of(epoch), state.pair.source, runtime.seed)
        for group in state.optimizer.param_groups:
            group["lr"] = self.lr_at(epoch)

    def result(self, state: Distilling, runtime: Runtime) -> DistilledClassifier:
        """The student as it is now, or as it was after its best epoch."""
        teacher = state.answers.watched.network if state.answers else None
        return DistilledClassifier(
            network=copy.deepcopy(state.kept).cpu().eval(),
            student=None if state.pair.student is not None else self.student,
            classes=state.pair.source.classes,
            shape=state.pair.source.shape,
            transform=state.pair.source.transform,
            group=self.group_of(self.outputs(state.pair.source)),
            origin=Origin.of(state.pair, self, runtime, state.student, teacher),
            scores={} if state.best is None else state.best.told(self.keep),
        )

    def group_of(self, outputs: int) -> tuple[int, ...] | None:
        """The class of each logit, where those are subclasses."""
        return None


@dataclass(frozen=True, kw_only=True)
class InBenchmark(Distillation):
    """A method of CRD's benchmark, whose defaults are its settings there, for all pairs alike."""

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of CRD's benchmark.

        Args:
            data: cifar100, or a pair of its benchmark, whose student is then taken.

        Raises:
            InputError: Another data set or pair.
        """
        return cls(**schedule(data), **row_of({"cifar100": {}}, data, cls.__name__))


def _seeded(build: Any, runtime: Runtime) -> Any:
    """What a function builds with PyTorch's global generator, seeded without touching it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=runtime.generator("connectors"))))
        return build()
