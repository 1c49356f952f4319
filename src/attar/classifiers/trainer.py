"""Distillation inside a `transformers.Trainer` or in your own training loop, for classifiers of images or text.

    class DistillingTrainer(DistillationMixin, Trainer): ...
    DistillingTrainer(model=student, teacher=teacher, method=KD(), args=..., train_dataset=...).train()

Checkpoints are the Trainer's own, and parts of those are pickles. The modules and the memory of a method lie in a
safetensors file of their own in each checkpoint, which is read when the Trainer resumes. For checkpoints without
pickles, which resume bit for bit, use `attar.distill`.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.classifiers.arguments import check_arguments, check_labels, check_optimizer, check_problem, compiles
from attar.classifiers.distillation import Distillation
from attar.classifiers.distilled import Distilled, Given, in_its_type
from attar.classifiers.dropout import check_droppable
from attar.classifiers.loader import SamplesOfTrainer, model_inputs
from attar.classifiers.numbered import ROW, Numbered, WithRows
from attar.classifiers.pair import Batch, Distilling
from attar.classifiers.teacher import classifier_named
from attar.classifiers.watched import Answers, Watched, taken
from attar.core import store
from attar.core.errors import InputError, reason_of
from attar.core.seeds import derived_seed
from attar.core.state import pack, unpack
from attar.images.networks.architecture import mixes_images
from attar.images.networks.outputs import logits_in

BESIDE = "attar-beside.safetensors"
"""File in a checkpoint of the Trainer with connectors, further heads, class directions and memories."""
UNCOUNTED = -100
"""Label of a sample that the Trainer does not count."""


class DistillationMixin:
    """Adds a teacher's terms to the loss of a Trainer of classifiers of images or text.

    The Trainer wraps the student together with the modules that the method trains beside it. Several processes
    therefore average the gradients of both, and `torch_compile`, mixed precision, `weight_decay` and `max_grad_norm`
    work on both. The student is saved as a plain Trainer saves it. A method that compares samples compares those of a
    batch of one process.

    Args:
        teacher: A classifier of the same inputs and labels, or the folder or hub name of one of `transformers`. A
            teacher of text reads the student's tokens. It runs in evaluation mode and is not trained.
        method: Settings of a method. Its weights, temperature and dropout count; the schedule is the Trainer's. If it
            compares samples, or trains a module with batch norm, a last batch of one sample has only the term of the
            labels. If it remembers samples (crd), the training samples are numbered and their labels are read once.

    Raises:
        InputError: A method that remembers samples gets samples without numbers or several processes; a method that
            aligns gradients gets several batches or processes for a step; a method that compares samples gets batches
            of one; an argument of the Trainer has no effect here; or the networks do not fit.
    """

    def __init__(self, *args: Any, teacher: nn.Module | str | Path, method: Distillation, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        trainer: Any = self
        check_arguments(trainer, method)
        network = teacher if isinstance(teacher, nn.Module) else classifier_named(str(teacher))
        check_problem(trainer.model, "student")
        check_problem(network, "teacher")
        self.method = self._numbered(method) if method.remembers_rows else method
        self._teacher = Watched(network.eval().requires_grad_(False), method.teacher_layers)
        self._distilled: Distilled | None = None
        self._resumed: Path | None = None
        self._hooks = ExitStack()
        # A mean over a batch is weighed by the batch's share of the samples of a step, which the Trainer counts.
        self.model_accepts_loss_kwargs = True
        self.label_names = ["labels"]

    def _numbered(self, method: Distillation) -> Distillation:
        """Number the training samples; return the method for their count."""
        trainer: Any = self
        if trainer.train_dataset is None:
            return method
        trainer.train_dataset = Numbered(trainer.train_dataset)
        return method.of(len(trainer.train_dataset))

    def _get_collator_with_removed_columns(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's collator, which drops columns that the model does not take; the numbers of samples are kept."""
        collate = super()._get_collator_with_removed_columns(*args, **kwargs)  # type: ignore[misc]
        return WithRows(collate) if self.method.remembers_rows else collate

    # ---------------------------------------------------------------------------------------------------- step by step

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's training."""
        with self._hooks:
            return super().train(*args, **kwargs)  # type: ignore[misc]

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """In training, the sum of the term of the labels and the method's terms; in evaluation, the term of the labels.

        Args:
            model: The student, or the Trainer's wrapper around the student and its connectors.
            inputs: A batch.
            return_outputs: Whether to return a dictionary with the logits too.
            num_items_in_batch: Number of samples in all batches of a step, if the Trainer counts them. The loss is then
                the batch's share of the mean over them.

        Raises:
            InputError: The batch is empty or has no labels, or the networks do not fit.
        """
        if "labels" not in inputs or not len(inputs["labels"]):
            raise InputError("a batch is empty or has no labels. Give the labels as `labels`.")
        labels, named = inputs["labels"], model_inputs(inputs)
        check_labels(labels, self.method)
        if not model.training:
            loss, logits = self._evaluated(model, named, labels)
        else:
            loss, logits = self._trained(model, named, labels, inputs.get(ROW))
            loss = loss * self._share(labels, num_items_in_batch)
        return (loss, {"logits": logits}) if return_outputs else loss

    def _trained(
        self, model: nn.Module, named: dict[str, Any], labels: Tensor, rows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The loss and the logits, in one pass of the wrapped student."""
        if self._stale:
            self._begin(named)
        assert self._distilled is not None
        state = self._distilled.state
        labels_only = len(labels) == 1 and self._needs_two
        if self.method.remembers_rows and rows is None and not labels_only:
            raise InputError("a batch has no sample numbers. Use the Trainer's own data loader.")
        trainer: Any = self
        total, done = max(trainer.state.max_steps, 1), trainer.state.global_step
        warm = min(1.0, (done + self.method.warm_from) / (total * max(self.method.warm_up, 1e-9)))
        rows = torch.arange(len(labels)) if rows is None else rows.cpu()
        wanted = self._taught(named)
        when = {"epoch": int(trainer.state.epoch or 0), "seed": trainer.args.seed}
        self._distilled.given = Given(self.method, wanted, labels, rows, warm, done / total, labels_only, **when)
        whole = model if self._distilled.is_in(model) else self._distilled
        loss, logits = whole(in_its_type(self._distilled.student, named))
        state.done += not labels_only
        return loss, logits

    def _taught(self, named: dict[str, Any]) -> Answers:
        """The teacher's outputs, in the precision of the Trainer."""
        trainer: Any = self
        network = self._teacher.network.to(trainer.args.device)
        with torch.no_grad(), trainer.accelerator.autocast():
            return self._teacher(in_its_type(network, named))

    def _evaluated(self, model: nn.Module, named: dict[str, Any], labels: Tensor) -> tuple[Tensor, Tensor]:
        """The term of the labels and the logits. The teacher is not asked."""
        if self._distilled is not None and self._distilled.is_in(model):
            model = self._distilled.student
        student = self._trainer.model
        logits = logits_in(model(**taken(student, in_its_type(student, named))), "student")
        said = Answers(logits, logits, [])
        batch = Batch(said, said, labels, torch.arange(len(labels)), 1.0, 1.0)
        return self.method.label_term(batch), batch.student.logits

    def _share(self, labels: Tensor, of_all: Any) -> Any:
        """The weight of a batch's mean, where the Trainer adds up the batches of a step and averages its processes."""
        if of_all is None:
            return 1.0
        share = (labels != UNCOUNTED).sum() / of_all
        args, processes = self._trainer.args, self._trainer.accelerator.num_processes
        return share * processes if getattr(args, "average_tokens_across_devices", False) else share

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's step of evaluation, in the Trainer's precision."""
        with self._trainer.accelerator.autocast():
            return super().prediction_step(*args, **kwargs)  # type: ignore[misc]

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's step; the method's memory is updated when the gradient has been computed."""
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if self._distilled is not None:
            self.method.settle(self._distilled.state)
        return loss

    # ------------------------------------------------------------------------------------------------- before the first

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's optimiser, with the modules that the method trains beside the student."""
        optimizer = super().create_optimizer(*args, **kwargs)  # type: ignore[misc]
        if self._stale:
            self._begin(next(self._samples().batches(moved=True))[0])
        assert self._distilled is not None
        known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        parts = {name: p for name, p in self._distilled.parts.named_parameters() if id(p) not in known}
        if parts and self._trainer.lr_scheduler is not None:
            raise InputError(
                f"{self.method.name} trains modules beside the student, which your schedule does not know. Give the "
                "optimiser alone, and the schedule by lr_scheduler_type."
            )
        if parts:
            check_optimizer(self._trainer.args, self.method)
        decayed = set(self._trainer.get_decay_parameter_names(self._distilled.parts))
        for decay in (True, False):
            some = [parameter for name, parameter in parts.items() if (name in decayed) == decay]
            if some:
                optimizer.add_param_group({"params": some, "weight_decay": self._trainer.args.weight_decay * decay})
        return optimizer

    def _wrap_model(self, model: nn.Module, training: bool = True, **kwargs: Any) -> nn.Module:
        """The Trainer's wrapper: in training, around the student together with its connectors."""
        if not training:
            return super()._wrap_model(model, training=training, **kwargs)  # type: ignore[misc]
        assert self._distilled is not None
        trainer: Any = self
        if compiles(trainer):
            self._hooks.enter_context(self._distilled.watched.hooked())
        if self._distilled.is_in(model):
            return model
        trainer.optimizer = trainer.accelerator.prepare(trainer.optimizer)
        wrapped: nn.Module = trainer.accelerator.prepare_model(self._distilled)
        return wrapped

    @property
    def _trainer(self) -> Any:
        return self

    @property
    def _state(self) -> Distilling | None:
        return None if self._distilled is None else self._distilled.state

    @property
    def _stale(self) -> bool:
        """Whether there are no connectors yet for the Trainer's student, which `model_init` makes again."""
        return self._distilled is None or self._distilled.student is not self._trainer.model

    def _samples(self, classes: int = 0) -> SamplesOfTrainer:
        return SamplesOfTrainer(self, self._teacher, classes, self._trainer.args.device)

    def _begin(self, named: dict[str, Any]) -> None:
        """Build the connectors and the memory, when both networks have answered a first batch."""
        trainer: Any = self
        student, device = Watched(trainer.model, self.method.student_layers), trainer.args.device
        if self._teacher.network is student.network:
            raise InputError("the teacher is the student itself, which would not be trained. Give a copy of it.")
        if not any(parameter.requires_grad for parameter in student.network.parameters()):
            raise InputError("every parameter of the student is frozen. Set requires_grad of those that are trained.")
        training = student.network.training
        student.network.eval()
        with torch.no_grad(), trainer.accelerator.autocast():
            mine = _tried("student", student, named)
            self._teacher.network.to(device)
            theirs = _tried("teacher", self._teacher, named)
        student.network.train(training)
        self._check(mine, theirs)
        with torch.random.fork_rng(devices=[]):  # alike in every process
            torch.default_generator.manual_seed(derived_seed(trainer.args.seed, "connectors"))
            parts = nn.ModuleDict(self.method.connectors(mine, theirs)).to(device)
        state = Distilling(student.network, parts, torch.optim.SGD([torch.zeros((), requires_grad=True)]))
        if trainer.train_dataset is not None or not self.method.remembers_rows:
            state.memory = self.method.memory_from(self._samples(mine.logits.shape[1]))
        self._hooks.close()
        self._distilled = Distilled(student, state)
        if compiles(trainer):
            self._distilled.leave_loss_uncompiled()
        if self._needs_two and trainer.args.per_device_train_batch_size == 1:
            raise InputError(f"{self.method.name} compares the samples of a batch. Use a batch size of two or more.")
        if self._resumed is not None:
            self._restore(self._resumed)

    @property
    def _needs_two(self) -> bool:
        assert self._state is not None
        return self.method.compares_samples or mixes_images(self._state.parts)

    def _check(self, student: Answers, teacher: Answers) -> None:
        if student.logits.shape[1:] != teacher.logits.shape[1:]:
            raise InputError(_other_classes(student, teacher))
        if student.logits.shape[1] < 2:
            raise InputError("student and teacher give one logit for each sample. The losses here are for classes.")
        for who, answers in (("student", student), ("teacher", teacher)):
            if not answers.logits.isfinite().all():
                raise InputError(f"the {who}'s logits for the first batch are not finite.")
        check_droppable(student, self.method.dropout)
        self.method.check_pair(student, teacher)

    # ------------------------------------------------------------------------------------------------- killed, resumed

    def _save_checkpoint(self, model: nn.Module, trial: Any, *args: Any, **kwargs: Any) -> None:
        """The Trainer's checkpoint, with the modules and the memory beside the student."""
        super()._save_checkpoint(model, trial, *args, **kwargs)  # type: ignore[misc]
        trainer: Any = self
        folder = Path(trainer._get_output_dir(trial)) / f"checkpoint-{trainer.state.global_step}"
        if self._state is None or not trainer.args.should_save or not folder.is_dir():
            return
        tensors, plain = pack(self._beside())
        if tensors:
            store.write_tensors(folder / BESIDE, tensors, {"method": self.method.name, "plain": plain})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        """Read the Trainer's checkpoint, and the modules and memory beside the student: now, or when they are built."""
        super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)  # type: ignore[misc]
        self._resumed = Path(resume_from_checkpoint)
        if self._state is not None:
            self._restore(self._resumed)

    def _restore(self, folder: Path) -> None:
        assert self._state is not None
        self._resumed = None
        if not (folder / BESIDE).is_file():
            return
        tensors, facts = store.read_tensors(folder / BESIDE)
        if facts.get("method") != self.method.name:
            raise InputError(f"{folder} is a checkpoint of {facts.get('method')}, not of {self.method.name}.")
        beside = self._beside()
        try:
            unpack(beside, (tensors, facts["plain"]))
        except (KeyError, TypeError, RuntimeError):
            raise InputError(
                f"{folder / BESIDE} belongs to other networks, data or settings. Start a new run."
            ) from None
        self._state.done = beside["done"]

    def _beside(self) -> dict[str, Any]:
        """The tensors beside the student in a checkpoint."""
        assert self._state is not None
        return {"parts": self._state.parts, "memory": self._state.memory, "done": self._state.done}


def plain_loss(
    method: Distillation,
    student: Answers,
    teacher: Answers,
    labels: Tensor,
    *,
    warm: float = 1.0,
    progress: float = 0.0,
) -> Tensor:
    """The whole loss of a method without connectors or memory, for your own training loop.

    Args:
        method: Settings of such a method: kd, dkd, dist, rkd, sp, attention, skd, or dhkd with a shared head and
            without alignment.
        student: The output of `Watched(student)` for a batch.
        teacher: The output of `Watched(teacher)` for the same batch.
        labels: The labels of the batch.
        warm: Weight of terms that are warmed up, from 0 to 1.
        progress: Share of the run that is done.

    Raises:
        InputError: The batch is empty, the networks do not fit, or the method trains or remembers something beside the
            student or changes gradients.
    """
    if len(labels) <= method.compares_samples:
        what = "is empty" if not len(labels) else f"has one sample, but {method.name} compares samples"
        raise InputError(f"the batch {what}.")
    if student.logits.shape != teacher.logits.shape:
        raise InputError(_other_classes(student, teacher))
    method.check_pair(student, teacher)
    if method.connectors(student, teacher) or method.remembers:
        raise InputError(f"{method.name} trains or remembers something beside the student. Use attar.distill.")
    if method.changes_gradients:
        raise InputError(
            f"{method.name} aligns gradients, which a plain loss cannot do. Set alignment='off', or use attar.distill."
        )
    batch = Batch(student, teacher, labels, torch.arange(len(labels)), warm, progress)
    state = Distilling(nn.Identity(), nn.ModuleDict(), torch.optim.SGD([torch.zeros((), requires_grad=True)]))
    return method.total(method.loss_terms(batch, state), state)


def _tried(who: str, watched: Watched, named: dict[str, Any]) -> Answers:
    """The outputs for the first batch.

    Raises:
        InputError: The network does not take it.
    """
    try:
        return watched(in_its_type(watched.network, named))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
        reason = reason_of(error)
        raise InputError(f"the {who} does not take the first batch ({reason}).") from None


def _other_classes(student: Answers, teacher: Answers) -> str:
    return f"the student gives {student.logits.shape[1]} logits and the teacher {teacher.logits.shape[1]}."
