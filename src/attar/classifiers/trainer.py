"""Distillation inside a `transformers.Trainer`: its loop, its checkpoints, a method's terms.

    class DistillingTrainer(DistillationMixin, Trainer): ...
    DistillingTrainer(model=student, teacher=teacher, method=KD(), args=..., train_dataset=...).train()

Checkpoints are the Trainer's own, which are pickles in part; connectors that a method learns beside the student are in
its optimiser but in no checkpoint, so a run with connectors begins them anew when it is resumed. For checkpoints that
go on in the same bytes use `attar.distill`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from attar.classifiers.distillation import Batch, Distillation, Distilling
from attar.classifiers.nd import ND
from attar.classifiers.watched import Answers, Watched
from attar.core.errors import InputError


class DistillationMixin:
    """Adds a teacher's terms to the loss of a Trainer of classifiers of images or of text.

    Args:
        teacher: A classifier of the same inputs and labels; it is put in evaluation and learns nothing.
        method: Settings of a method; its weights and temperature count, its schedule is the Trainer's.

    Raises:
        InputError: A method that has to know which samples a batch holds (crd), or networks that do not fit.
    """

    def __init__(self, *args: Any, teacher: nn.Module, method: Distillation, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if method.name == "crd":
            raise InputError("crd remembers samples by number, which a Trainer does not tell; use attar.distill.")
        self.method = method
        self._teacher = Watched(teacher.eval().requires_grad_(False), method.teacher_layers)
        self._student: Watched | None = None
        self._state: Distilling | None = None

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The labels' term and the method's; outputs are logits in a dictionary."""
        labels = inputs["labels"]
        named = {name: value for name, value in inputs.items() if name != "labels"}
        if self._state is None:
            self._begin(model, named)
        assert self._student is not None
        assert self._state is not None
        self._teacher.network.to(labels.device)
        with torch.no_grad():
            wanted = self._teacher(named)
        batch = self._batch(self._student(named), wanted, labels)
        terms = {"labels": self.method.label_term(batch)} if self.method.label_weight else {}
        if model.training:
            terms |= self.method.terms(batch, self._state)
            self._state.done += 1
        loss = torch.stack(list(terms.values())).sum()
        return (loss, {"logits": batch.student.logits}) if return_outputs else loss

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's, with what the method learns beside the student."""
        optimizer = super().create_optimizer(*args, **kwargs)  # type: ignore[misc]
        if self._state is None:
            found = next(iter(self.get_train_dataloader()))  # type: ignore[attr-defined]
            device = next(self.model.parameters()).device  # type: ignore[attr-defined]
            named = {name: value.to(device) for name, value in found.items() if name != "labels"}
            self._begin(self.model, named)  # type: ignore[attr-defined]
        assert self._state is not None
        parts = list(self._state.parts.parameters())
        if parts:
            optimizer.add_param_group({"params": parts})
        return optimizer

    def _begin(self, model: nn.Module, named: dict[str, Tensor]) -> None:
        student = Watched(getattr(model, "module", model), self.method.student_layers)
        device = next(model.parameters()).device
        self._teacher.network.to(device)
        with torch.no_grad():
            mine, theirs = student(named), self._teacher(named)
        if mine.logits.shape[1:] != theirs.logits.shape[1:]:
            raise InputError(
                f"the student gives {mine.logits.shape[1]} logits and the teacher {theirs.logits.shape[1]}."
            )
        parts = nn.ModuleDict(self.method.connectors(mine, theirs)).to(device)
        self._student = student
        self._state = Distilling(student.network, parts, torch.optim.SGD([torch.zeros((), requires_grad=True)]))
        if isinstance(self.method, ND):
            self._state.memory = self.method.directions(self._teacher, self._labelled(device), mine.logits.shape[1])

    def _labelled(self, device: torch.device) -> Any:
        for found in self.get_train_dataloader():  # type: ignore[attr-defined]
            named = {name: value.to(device) for name, value in found.items()}
            yield {name: value for name, value in named.items() if name != "labels"}, named["labels"]

    def _batch(self, student: Answers, teacher: Answers, labels: Tensor) -> Batch:
        trainer: Any = self
        steps = max(trainer.state.max_steps, 1) * max(self.method.warm_up, 1e-9)
        warm = min(1.0, (trainer.state.global_step + 1) / steps)
        teacher = Answers(teacher.logits.float(), teacher.embedding.float(), teacher.stages)
        return Batch(student, teacher, labels, torch.arange(len(labels)), warm)


def plain_loss(
    method: Distillation, student: Answers, teacher: Answers, labels: Tensor, *, warm: float = 1.0
) -> Tensor:
    """The whole loss of a method without connectors or memory, for a training loop of one's own.

    Args:
        method: Settings of such a method: kd, dkd, dist, rkd, attention, or dhkd with a shared head.
        student: What `Watched(student)` says of a batch.
        teacher: What `Watched(teacher)` says of it.
        labels: Its labels.
        warm: How much a term counts that is warmed up.

    Raises:
        InputError: A method that learns or remembers something beside the student.
    """
    if method.connectors(student, teacher) or type(method).remember is not Distillation.remember:
        raise InputError(f"{method.name} learns or remembers something beside the student; use attar.distill.")
    batch = Batch(student, teacher, labels, torch.arange(len(labels)), warm)
    state = Distilling(nn.Identity(), nn.ModuleDict(), torch.optim.SGD([torch.zeros((), requires_grad=True)]))
    terms = {"labels": method.label_term(batch), **method.terms(batch, state)}
    return torch.stack(list(terms.values())).sum()
