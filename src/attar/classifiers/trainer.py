"""Distillation inside a `transformers.Trainer` or in your own training loop, for classifiers of images or text.

    class DistillingTrainer(DistillationMixin, Trainer): ...
    DistillingTrainer(model=student, teacher=teacher, method=KD(), args=..., train_dataset=...).train()

Checkpoints are the Trainer's own, and parts of those are pickles. The modules and the memory of a method lie in a
safetensors file of their own in each checkpoint, which is read when the Trainer resumes. For checkpoints without
pickles, which resume bit for bit, use `attar.distill`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.classifiers.distillation import Distillation
from attar.classifiers.numbered import ROW, Numbered, WithRows
from attar.classifiers.pair import Batch, Distilling, Samples
from attar.classifiers.teacher import classifier_named
from attar.classifiers.watched import Answers, Watched
from attar.core import store
from attar.core.errors import InputError
from attar.core.seeds import derived_seed
from attar.core.state import pack, unpack
from attar.images.networks.architecture import mixes_images

BESIDE = "attar-beside.safetensors"
"""File in a checkpoint of the Trainer with connectors, further heads, class directions and memories."""


class DistillationMixin:
    """Adds a teacher's terms to the loss of a Trainer of classifiers of images or text.

    Args:
        teacher: A classifier of the same inputs and labels, or the folder or hub name of one of `transformers`. A
            teacher of text reads the student's tokens. It runs in evaluation mode and is not trained.
        method: Settings of a method. Its weights and temperature count; the schedule is the Trainer's. If the method
            compares samples, or trains a module with batch norm, a last batch of one sample has only the term of the
            labels. If it remembers samples (crd), the training samples are numbered and their labels are read once.

    Raises:
        InputError: A method that remembers samples gets samples without numbers or several processes; a method that
            compares samples gets batches of one; or the networks do not fit.
    """

    def __init__(self, *args: Any, teacher: nn.Module | str | Path, method: Distillation, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method = self._numbered(method) if method.remembers_rows else method
        network = teacher if isinstance(teacher, nn.Module) else classifier_named(str(teacher))
        self._teacher = Watched(network.eval().requires_grad_(False), method.teacher_layers)
        self._student: Watched | None = None
        self._state: Distilling | None = None
        self._resumed: Path | None = None
        self._cleared_at = -1
        # The loss is a mean over a batch, so the Trainer has to divide it when it accumulates several batches.
        self.model_accepts_loss_kwargs = self.loss_is_scaled_for_ga = False

    def _numbered(self, method: Distillation) -> Distillation:
        """Number the training samples; return the method for their count."""
        trainer: Any = self
        if trainer.args.world_size > 1:
            processes = trainer.args.world_size
            raise InputError(
                f"{method.name} remembers samples in one process, but there are {processes}. Use one process."
            )
        if trainer.train_dataset is None:
            return method
        trainer.train_dataset = Numbered(trainer.train_dataset)
        return method.of(len(trainer.train_dataset))

    def _get_collator_with_removed_columns(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's collator, which drops columns that the model does not take; the numbers of samples are kept."""
        collate = super()._get_collator_with_removed_columns(*args, **kwargs)  # type: ignore[misc]
        return WithRows(collate) if self.method.remembers_rows else collate

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The sum of the term of the labels and the method's terms; the outputs are a dictionary with the logits.

        Raises:
            InputError: The batch is empty or has no labels, or the networks do not fit.
        """
        if "labels" not in inputs or not len(inputs["labels"]):
            raise InputError("a batch is empty or has no labels. Give the labels as `labels`.")
        labels, named = inputs["labels"], _model_inputs(inputs)
        if self._state is None:
            self._begin(model, named)
        assert self._student is not None
        assert self._state is not None
        self._teacher.network.to(labels.device)
        with torch.no_grad():
            wanted = self._teacher(named)
        batch = self._batch(self._student(named), wanted, labels, inputs.get(ROW))
        if model.training and not (len(labels) == 1 and self._needs_two):
            if self.method.remembers_rows and ROW not in inputs:
                raise InputError("a batch has no sample numbers. Use the Trainer's own data loader.")
            self._clear()
            loss = self.method.total(self.method.loss_terms(batch, self._state), self._state)
            self._state.done += 1
        else:
            loss = self.method.label_term(batch)
        return (loss, {"logits": batch.student.logits}) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's step; the method's memory is updated when the gradient has been computed."""
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if self._state is not None:
            self.method.settle(self._state)
        return loss

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's optimiser, with the modules that the method trains beside the student."""
        optimizer = super().create_optimizer(*args, **kwargs)  # type: ignore[misc]
        self._cleared_at = -1
        if self._state is None:
            found = next(iter(self.get_train_dataloader()))  # type: ignore[attr-defined]
            device = next(self.model.parameters()).device  # type: ignore[attr-defined]
            self._begin(self.model, {name: t.to(device) for name, t in _model_inputs(found).items()})  # type: ignore[attr-defined]
        assert self._state is not None
        parts = list(self._state.parts.parameters())
        if parts:
            optimizer.add_param_group({"params": parts})
        return optimizer

    def _begin(self, model: nn.Module, named: dict[str, Tensor]) -> None:
        student = Watched(getattr(model, "module", model), self.method.student_layers)
        device, training = next(model.parameters()).device, model.training
        self._teacher.network.to(device)
        model.eval()
        with torch.no_grad():
            mine, theirs = student(named), self._teacher(named)
        model.train(training)
        self._check(mine, theirs)
        parts = nn.ModuleDict(self.method.connectors(mine, theirs)).to(device)
        self._student = student
        self._state = Distilling(student.network, parts, torch.optim.SGD([torch.zeros((), requires_grad=True)]))
        if self.train_dataset is not None or not self.method.remembers_rows:  # type: ignore[attr-defined]
            samples = SamplesOfTrainer(self, self._teacher, mine.logits.shape[1], device)
            self._state.memory = self.method.memory_from(samples)
        if self._needs_two and self.args.per_device_train_batch_size == 1:  # type: ignore[attr-defined]
            raise InputError(f"{self.method.name} compares the samples of a batch. Use a batch size of two or more.")
        if self._resumed is not None:
            self._restore(self._resumed)

    @property
    def _needs_two(self) -> bool:
        assert self._state is not None
        return self.method.compares_samples or mixes_images(self._state.parts)

    def _clear(self) -> None:
        """Clear the gradients of the modules beside the student; the Trainer clears only its model's."""
        trainer: Any = self
        if self._cleared_at != trainer.state.global_step and self._state is not None:
            self._state.parts.zero_grad()
            self._cleared_at = trainer.state.global_step

    def _check(self, student: Answers, teacher: Answers) -> None:
        if student.logits.shape[1:] != teacher.logits.shape[1:]:
            raise InputError(_other_classes(student, teacher))
        for who, answers in (("student", student), ("teacher", teacher)):
            if not answers.logits.isfinite().all():
                raise InputError(f"the {who}'s logits for the first batch are not finite.")
        self.method.check_pair(student, teacher)

    def _batch(self, student: Answers, teacher: Answers, labels: Tensor, rows: Tensor | None) -> Batch:
        trainer: Any = self
        total, done = max(trainer.state.max_steps, 1), trainer.state.global_step
        warm = min(1.0, (done + self.method.warm_from) / (total * max(self.method.warm_up, 1e-9)))
        rows = torch.arange(len(labels)) if rows is None else rows.cpu()
        return Batch(student, teacher, labels, rows, warm, done / total)

    # ------------------------------------------------------------------------------------------------- killed, resumed

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """The Trainer's checkpoint, with the modules and the memory beside the student."""
        super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]
        trainer: Any = self
        folder = Path(trainer.args.output_dir) / f"checkpoint-{trainer.state.global_step}"
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


class SamplesOfTrainer(Samples):
    """The training samples of a Trainer, which places them on the device itself."""

    def __init__(self, trainer: Any, teacher: Watched, classes: int, device: torch.device) -> None:
        self.trainer, self.teacher, self.classes, self.device = trainer, teacher, classes, device

    def labels(self) -> Tensor:
        """The labels that the collator finds; only for numbered samples."""
        collate = self.trainer._get_collator_with_removed_columns(self.trainer.data_collator)
        return self.trainer.train_dataset.labels(collate)

    def batches(self, *, moved: bool) -> Iterator[tuple[Any, Tensor]]:
        """The batches of the Trainer's loader."""
        for found in self.trainer.get_train_dataloader():
            inputs = {name: tensor.to(self.device) for name, tensor in _model_inputs(found).items()}
            yield inputs, found["labels"].to(self.device)

    def generator(self) -> torch.Generator:
        """A generator with the Trainer's seed."""
        return torch.Generator().manual_seed(derived_seed(self.trainer.args.seed, "memory"))


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


def _model_inputs(inputs: Any) -> dict[str, Tensor]:
    return {name: value for name, value in inputs.items() if name not in ("labels", ROW)}


def _other_classes(student: Answers, teacher: Answers) -> str:
    return f"the student gives {student.logits.shape[1]} logits and the teacher {teacher.logits.shape[1]}."
