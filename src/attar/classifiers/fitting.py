"""The training loop of all classifiers: one network, a teacher's outputs if there is a teacher, and SGD on terms.

A method defines its terms and the modules that it trains beside the network. Checkpoints hold those modules; the
result does not. The teacher's outputs for a view that comes again are computed once.
"""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.classifiers.artefact import DistilledClassifier, Origin
from attar.classifiers.dropout import answers_under_masks, check_droppable
from attar.classifiers.encoder import encoder_of
from attar.classifiers.pair import Batch, Distilling, Pair, Samples, Terms
from attar.classifiers.recipe import Recipe
from attar.classifiers.selection import Best, parted, reserved_rows, score_held_out
from attar.classifiers.teacher import AnswersOfViews
from attar.classifiers.teachers import Averaged
from attar.classifiers.views import order_of
from attar.classifiers.watched import Answers, Watched
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed, seeded, seeded_by
from attar.core.sending import sent
from attar.core.sharing import Share, check_shareable
from attar.core.training import rows_after, set_lr
from attar.images import layout
from attar.images.networks.architecture import Architecture, device_of, multiply_adds
from attar.images.networks.pretrained import PREFIX, Say, network_named, seeing
from attar.images.sources import ImageSource


@dataclass(frozen=True, kw_only=True)
class Fitting(Recipe):
    """Settings and training loop of the methods that train a classifier, with a teacher or without one."""

    name = "fitting"
    kind = "classifiers"
    shares = True
    needs_teacher = False
    uses_stages = False
    """Whether the method compares maps. Maps are stored only if they fit into memory."""
    features_of: ClassVar[tuple[str, ...]] = ()
    """The networks (student, teacher) whose features before the last linear layer the method needs."""
    uses_maps = False
    """Whether it compares maps, or features where there are none."""
    compares_samples = False
    """Whether the method compares the samples of a batch, so that a batch needs at least two."""
    hard_labels = False
    """Whether the method needs one class for each image. A mixed image does not have one."""
    remembers = False
    """Whether the method keeps state beside the student that is not learned: see `memory_from`."""
    remembers_rows = False
    """Whether that state has one entry for each sample, so that a batch has to carry the numbers of its samples."""

    student_layers: ClassVar[tuple[str, ...]] = ()
    teacher_layers: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.built_by.startswith(PREFIX):
            network_named(self.built_by)
        if self.hard_labels and (self.mixup or self.cutmix):
            raise InputError(f"{self.name} needs one class for each image. Do not set mixup or cutmix.")

    # ------------------------------------------------------------------------------------------ what a method fills in

    @property
    def built_by(self) -> str:
        """The name of the network that is trained."""
        raise NotImplementedError

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The method's weighted terms, which are added to the term of the labels."""
        return {}

    def connectors(self, student: Answers, teacher: Answers) -> dict[str, nn.Module]:
        """The modules that are trained beside the student.

        Their sizes come from both networks' outputs for two images.
        """
        return {}

    def of(self, images: int) -> Self:
        """The same settings for a training set of `images` samples."""
        return dataclasses.replace(self, images=images)

    def memory_from(self, samples: Samples) -> Any:
        """The method's memory before the first step: a dataclass of tensors, or None."""
        return None

    def settle(self, state: Distilling) -> None:
        """Update the memory after a step, when its gradient has been computed."""

    @property
    def changes_gradients(self) -> bool:
        """Whether the gradient of a step differs from the gradient of the sum of its terms."""
        return False

    def label_term(self, batch: Batch) -> Float[Tensor, ""]:
        """The weighted loss of the labels."""
        raise NotImplementedError

    def outputs(self, source: ImageSource) -> int:
        """Number of logits of the student."""
        return len(source.classes)

    def loss_terms(self, batch: Batch, state: Distilling) -> Terms:
        """All terms of a step."""
        return {"labels": self.label_term(batch)}

    def total(self, terms: Terms, state: Distilling) -> Float[Tensor, ""]:
        """The sum of the terms. A method that changes gradients changes the gradient of this number.

        Raises:
            InputError: There is no term.
        """
        if not terms:
            raise InputError(
                f"every term has weight 0, so the student learns nothing. Give a term of {self.name} a weight."
            )
        return torch.stack(list(terms.values())).sum()

    def descend(self, terms: Terms, state: Distilling) -> Tensor:
        """Compute the gradient of the sum; return the loss."""
        loss = self.total(terms, state)
        loss.backward()
        return loss.detach()

    def order(self, epoch: int, source: ImageSource, seed: int) -> Int[Tensor, " image"]:
        """The order of the images in an epoch."""
        return order_of(seed, epoch, self.images)

    def further_scores(self, teacher: nn.Module, source: ImageSource, runtime: Runtime) -> dict[str, float]:
        """Further scores of the teacher, computed when its student is finished."""
        return {}

    # --------------------------------------------------------------------------------------------------------- the run

    def trained_on(self, pair: Pair, runtime: Runtime) -> Pair:
        """The pair without the training images that are reserved, or held out to choose an epoch.

        Raises:
            InputError: A share holds out no image, or leaves no image of a class.
        """
        source = pair.source
        if self.reserved:
            source = source.without(reserved_rows(source, self.reserved, runtime.seed))
        if self.keep != "last":
            source = parted(source, self.held_out, runtime.seed)
        return pair if source is pair.source else dataclasses.replace(pair, source=source, whole=pair.source)

    def resolve(self, pair: Pair, runtime: Runtime) -> Self:
        """Fill in the settings that have no value yet.

        Raises:
            InputError: There is no such student, a network does not take the images or returns no logits, or no
                parameter of the student can be trained.
        """
        shape = pair.source.shape
        self._check_several(pair.teacher)
        for who, network in (("teacher", pair.teacher), ("student", pair.student)):
            if network is not None:
                Watched(network, who=who).tried(shape, device_of(network))
        if pair.student is not None:
            if not any(parameter.requires_grad for parameter in pair.student.parameters()):
                raise InputError("no parameter of the student can be trained. Set requires_grad of those that learn.")
            Watched(pair.student, who="student").tried(shape, device_of(pair.student), training=True)
        return self.fitted_to(self.trained_on(pair, runtime).source)

    def _check_several(self, teacher: nn.Module | None) -> None:
        """Refuse to compare features with those of several teachers."""
        if isinstance(teacher, Averaged) and (self.uses_stages or self.uses_maps or "teacher" in self.features_of):
            raise InputError(
                f"{self.name} compares features with those of one teacher, but {len(teacher.networks)} are given. Give "
                "one, or take a method on logits, such as kd, dkd or dist."
            )

    def work(self, pair: Pair) -> float:
        """The estimated work: three passes of the student and one of the teacher for every image of every epoch."""
        student = multiply_adds(self._student(pair, torch.Generator()), pair.source.shape)
        teacher = 0 if pair.teacher is None else multiply_adds(pair.teacher, pair.source.shape)
        return float(3 * student + teacher) * self.images * self.epochs

    def _student(self, pair: Pair, generator: torch.Generator, say: Say | None = None) -> nn.Module:
        if pair.student is not None:
            return copy.deepcopy(pair.student)
        kind = network_named(self.built_by)
        if isinstance(kind, Architecture):
            return kind.build(pair.source.shape, self.outputs(pair.source), generator)
        with seeded(generator):
            return seeing(kind(pair.source.shape, self.outputs(pair.source)), pair.source, say)

    def build(self, pair: Pair, runtime: Runtime) -> Distilling:
        """Make a fresh student, its connectors, and the teacher's outputs.

        Raises:
            InputError: Teacher and student do not fit the data or each other.
        """
        pair = self.trained_on(pair, runtime)
        student = layout.place(self._student(pair, runtime.generator("network"), runtime.say), runtime).train()
        check_shareable(student, runtime.processes)
        watched = Watched(student, self.student_layers, "student")
        mine = watched.tried(pair.source.shape, runtime.device)
        answers, theirs = None, mine
        if pair.teacher is not None and self.needs_teacher:
            teacher = layout.place(copy.deepcopy(pair.teacher), runtime).eval().requires_grad_(False)
            answers = AnswersOfViews(Watched(teacher, self.teacher_layers, "teacher"), pair.source, self, runtime)
            theirs = answers.watched.tried(pair.source.shape, runtime.device)
        self.check(mine, theirs, pair.source)
        check_droppable(mine, self.dropout)
        self._check_images([watched] if answers is None else [watched, answers.watched], pair.source, runtime)
        with seeded(runtime.generator("connectors")):
            parts = nn.ModuleDict(self.connectors(mine, theirs)).to(runtime.device).train()
        state = Distilling(student, parts, torch.optim.SGD([nn.Parameter(torch.zeros(()))]), pair=pair, watched=watched)
        state.optimizer = self.optimizer_of(list(state.learned()))
        state.answers = answers
        state.best = None if self.keep == "last" else Best(copy.deepcopy(student))
        state.memory = self.memory_from(ImagesOfPair(self, state, runtime))
        return state

    def check(self, student: Answers, teacher: Answers, source: ImageSource) -> None:
        """Check that both networks have the right number of finite logits, and give the maps that are compared.

        Raises:
            InputError: One of them does not.
        """
        for who, answers in (("student", student), ("teacher", teacher)):
            if answers.logits.shape[1] != self.outputs(source):
                raise InputError(
                    f"the {who} gives {answers.logits.shape[1]} logits, but {source.name} needs "
                    f"{self.outputs(source)}. A network that returns several tensors has to return the logits first."
                )
            if not answers.logits.isfinite().all():
                raise InputError(f"the {who}'s logits for a black image are not finite.")
        self.check_pair(student, teacher)

    def _check_images(self, networks: Sequence[Watched], source: ImageSource, runtime: Runtime) -> None:
        """Check the outputs for the first two training images: black images may hide a fault."""
        images = source.inputs(torch.tensor([0, 1]), runtime.device)
        for watched in networks:
            finite = watched.tried(source.shape, runtime.device, images=images).logits.isfinite().all(dim=1)
            if not finite.all():
                row = int(finite.logical_not().nonzero()[0])
                raise InputError(f"the {watched.who}'s logits for training image {row} are not finite.")

    def check_pair(self, student: Answers, teacher: Answers) -> None:
        """Check that the networks have what the method compares.

        Raises:
            InputError: They do not.
        """

    def step(self, state: Distilling, runtime: Runtime) -> Metrics:
        """Run one mini-batch.

        Of several processes each runs both networks on its rows, and computes the terms for all rows.
        """
        epoch, number = divmod(state.done, self.batches)
        if number == 0 or state.order is None:
            self._begin_epoch(epoch, state, runtime)
        rows = state.order[number * self.batch :][: self.batch]
        source, share = state.pair.source, Share(len(rows), runtime.processes)
        images = state.view.seen(source.inputs, share.of(rows), runtime.device)
        coming = rows_after(state.order, number, self.batch)
        source.expect(Share(len(coming), runtime.processes).of(coming), runtime.device)
        images = layout.ordered(images, runtime)
        with runtime.autocast(training=True), self._drawing(state, runtime), share.within():
            said, branches = answers_under_masks(state.watched, images, self.dropout, self.dropout_samples)
        said = said.joined(share, stages=self.uses_stages or self.uses_maps)
        if branches is not None and not share.alone:
            branches = share.joined_at(branches, 1)
        batch = Batch(
            student=said,
            teacher=state.answers(images, rows, self.view_of(epoch), share) if state.answers else said,
            labels=sent(state.view.labels(source.targets, rows, len(source.classes)), runtime.device),
            rows=rows,
            warm=self.warmth(epoch),
            progress=state.done / self.total_steps,
            epoch=epoch,
            seed=runtime.seed,
            branches=branches,
        )
        state.share = share
        state.optimizer.zero_grad(set_to_none=True)
        with self._drawing(state, runtime, "terms"):
            terms = self.loss_terms(batch, state)
        loss = self.descend(terms, state)
        share.add_gradients(state.learned(), joined=True)
        self.settle(state)
        if self.clip_norm:
            torch.nn.utils.clip_grad_norm_(list(state.learned()), self.clip_norm)
        state.optimizer.step()
        state.done += 1
        if state.best is not None and state.done % self.batches == 0:
            source, group = state.pair.source, self.group_of(self.outputs(state.pair.source))
            found = runtime.processes.once(lambda: score_held_out(state.student, source, runtime, group, self.keep))
            state.best.see(state.student, epoch + 1, found)
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}

    def _drawing(self, state: Distilling, runtime: Runtime, what: str = "student") -> AbstractContextManager[None]:
        """Seed PyTorch's global generator, from which dropout draws, by the step; restore it afterwards."""
        return seeded_by(derived_seed(runtime.seed, f"{what} {state.done}"), runtime.device)

    def _begin_epoch(self, epoch: int, state: Distilling, runtime: Runtime) -> None:
        state.order = self.order(epoch, state.pair.source, runtime.seed)
        state.view = self.drawn_view(self.view_of(epoch), state.pair.source, runtime.seed)
        set_lr(state.optimizer, self.lr_at(epoch))

    def result(self, state: Distilling, runtime: Runtime) -> DistilledClassifier:
        """The student as it is now, or as it was after its best epoch."""
        teacher = state.answers.watched.network if state.answers else None
        return DistilledClassifier(
            network=copy.deepcopy(state.kept).cpu().eval(),
            student=None if state.pair.student is not None else self.built_by,
            classes=state.pair.source.classes,
            shape=state.pair.source.shape,
            transform=state.pair.source.transform,
            group=self.group_of(self.outputs(state.pair.source)),
            origin=Origin.of(state.pair, self, runtime, state.student, teacher),
            scores={} if state.best is None else state.best.told(self.keep),
            encoder=encoder_of(state.pair.source),
        )

    def group_of(self, outputs: int) -> tuple[int, ...] | None:
        """The class of each logit, if the logits are subclasses."""
        return None


class ImagesOfPair(Samples):
    """The training images of a run in attar's own loop."""

    def __init__(self, method: Fitting, state: Distilling, runtime: Runtime) -> None:
        self.method, self.source, self.runtime = method, state.pair.source, runtime
        self.teacher = state.answers.watched if state.answers else None
        self.classes, self.device = len(self.source.classes), runtime.device

    def labels(self) -> Int[Tensor, " image"]:
        """The targets."""
        return self.source.targets

    def batches(self, *, moved: bool) -> Iterator[tuple[Any, Tensor]]:
        """The images as they are, or in the view of the first epoch."""
        view = self.method.drawn_view(0, self.source, self.runtime.seed) if moved else None
        for rows in torch.arange(len(self.source.targets)).split(256):
            images = self.source.inputs(rows, self.device)
            yield (view.shown(images, rows) if view else images), self.source.targets[rows]

    def generator(self) -> torch.Generator:
        """The generator of the run."""
        return self.runtime.generator("memory")
