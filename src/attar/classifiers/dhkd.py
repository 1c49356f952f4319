"""DHKD: cross-entropy on one head, and a loss on raw logits on a second head, which is dropped after training.

The two losses conflict in a single classifier at large learning rates. On two heads they share only the features.
Compare it with plain KD, at several learning rates: if one head does not collapse, it is as good.
Yang, Zong, Huang, Feng and An, Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an Auxiliary Head,
KDD 2025, arXiv:2411.08937.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.classifiers.distillation import Distillation
from attar.classifiers.kd import Logits, Scalar
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.classifiers.watched import Answers
from attar.core.presets import published
from attar.core.settings import Range

Reduction = Literal["sum", "mean"]


@dataclass(frozen=True, kw_only=True)
class DHKD(Distillation):
    """Put cross-entropy and a loss on raw logits on two heads (Yang et al., KDD 2025, arXiv:2411.08937).

    L = CE(z, y) + α L(a, t), where z are the kept head's logits and a the auxiliary head's. L is BinaryKL-Norm or
    BinaryKL.
    """

    teacher_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the teacher's answers, α: the loss of the auxiliary head, a sum over classes. Use 0.1 on ImageNet."""
    temperature: Annotated[float, Range(0.01)] = 2.0
    """Temperature that softens answers, τ."""
    head_loss: Literal["norm", "binary", "squared"] = "norm"
    """Loss of the auxiliary head: BinaryKL-Norm (norm), BinaryKL (binary), or the limit of both for τ → ∞, an eighth of
    the squared error of logits (squared; Ba and Caruana, NeurIPS 2014, arXiv:1312.6184)."""
    head: Literal["nonlinear", "linear", "shared"] = "nonlinear"
    """Kind of the auxiliary head. shared uses the kept head, which is the paper's counter-example."""
    alignment: Literal["on", "off", "backbone"] = "on"
    """Whether the part of α's gradient that opposes the labels' gradient is removed. on measures it over all parameters
    (as released, which also lengthens the kept head's step), backbone over those that both losses reach."""
    class_reduction: Literal["sum", "mean"] = "sum"
    """Whether the loss is a sum or a mean over classes."""
    stop_at: Annotated[float, Range(0, 1)] = 1.0
    """Share of the epochs after which α is 0. The ImageNet script uses half."""

    moved = MappingProxyType({**Distillation.moved, "alpha": "teacher_weight", "loss": "head_loss"})
    name = "dhkd"

    @property
    def features_of(self) -> tuple[str, ...]:  # type: ignore[override]
        """The student, for the auxiliary head."""
        return () if self.head == "shared" else ("student",)

    def connectors(self, student: Answers, teacher: Answers) -> dict[str, nn.Module]:
        """The auxiliary head, unless the kept head is shared."""
        if self.head == "shared":
            return {}
        features, classes = student.embedding.shape[1], student.logits.shape[1]
        return {"head": AuxiliaryHead(features, classes, hidden=None if self.head == "linear" else 200)}

    def terms(self, batch: Batch, state: Distilling) -> Terms:
        """The loss of the auxiliary head."""
        if not self.teacher_weight or batch.progress >= self.stop_at:
            return {}
        said = batch.student
        logits = said.logits if self.head == "shared" else state.parts["head"](said.embedding)
        wanted = batch.teacher.logits
        if self.head_loss == "squared":
            return {"teacher": self.teacher_weight * squared_error(logits, wanted, self.class_reduction)}
        distance = binary_kl_norm if self.head_loss == "norm" else binary_kl
        return {"teacher": self.teacher_weight * distance(logits, wanted, self.temperature, self.class_reduction)}

    @property
    def changes_gradients(self) -> bool:
        """Whether gradients are aligned."""
        return self.alignment != "off"

    def total(self, terms: Terms, state: Distilling) -> Scalar:
        """A number whose value is the sum of the terms, and whose gradient is aligned if `alignment` asks for it."""
        if not self.changes_gradients or len(terms) < 2:
            return super().total(terms, state)
        learned = list(state.learned())
        main: Sequence[Tensor | None]
        other: Sequence[Tensor | None]
        main, other = (
            torch.autograd.grad(terms[name], learned, retain_graph=name == "labels", allow_unused=True)
            for name in ("labels", "teacher")
        )
        if not state.share.alone:
            main, other = (tuple(g if g is None else g.clone() for g in some) for some in (main, other))
            both = state.share.added([*main, *other], [*learned, *learned], joined=True)
            main, other = both[: len(learned)], both[len(learned) :]
        gradients = aligned(main, other, shared=self.alignment == "backbone")
        pairs = zip(learned, gradients, strict=True)
        carrier = torch.stack([(p * g).sum() for p, g in pairs if g is not None]).sum()
        return (terms["labels"] + terms["teacher"]).detach() + (carrier - carrier.detach())

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of the authors' two example commands. Those of other pairs are not known.

        Args:
            data: cifar100 (resnet32x4 to shufflenetv2) or imagenet (resnet34 to resnet18).

        Raises:
            InputError: Another data set.
        """
        return published(cls, data)


class AuxiliaryHead(nn.Sequential):
    """The second head. It is linear, or has a hidden layer, dropout and batch norm, for networks that differ much."""

    def __init__(self, features: int, classes: int, *, hidden: int | None = 200, dropout: float = 0.1) -> None:
        if hidden is None:
            super().__init__(nn.Linear(features, classes))
            return
        super().__init__(
            nn.Linear(features, hidden),
            nn.Dropout(dropout),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, classes),
        )


def binary_kl(student: Logits, teacher: Logits, temperature: float = 2.0, classes: Reduction = "sum") -> Scalar:
    """BinaryKL: τ² Σ_c KL(Bern(σ(t_c / τ)) ‖ Bern(σ(a_c / τ))), averaged over samples."""
    wanted = torch.sigmoid(teacher.detach() / temperature)
    entropy = F.binary_cross_entropy_with_logits(teacher.detach() / temperature, wanted, reduction="none")
    cross = F.binary_cross_entropy_with_logits(student / temperature, wanted, reduction="none")
    return temperature**2 * _over_classes(cross - entropy, classes)


def log_cosh(values: Tensor) -> Tensor:
    """The logarithm of cosh u, computed as |u| + softplus(-2|u|) - log 2, which does not overflow."""
    size = values.abs()
    return size + F.softplus(-2 * size) - math.log(2)


def binary_kl_norm(student: Logits, teacher: Logits, temperature: float = 2.0, classes: Reduction = "sum") -> Scalar:
    """BinaryKL-Norm: τ² Σ_c KL(Bern(1/2) ‖ Bern(σ((a_c - t_c) / τ))), averaged over samples.

    In closed form it is τ² Σ_c log cosh((a_c - t_c) / 2τ), whose gradient τ/2 tanh(·) is bounded. For τ → ∞ it is an
    eighth
    of the squared error; for τ → 0 it is τ / 2 times the absolute error.
    """
    return temperature**2 * _over_classes(log_cosh((student - teacher.detach()) / (2 * temperature)), classes)


def squared_error(student: Logits, teacher: Logits, classes: Reduction = "sum") -> Scalar:
    """Σ_c (a_c - t_c)² / 8, averaged over samples: the limit of both losses for τ → ∞."""
    return _over_classes((student - teacher.detach()).square() / 8, classes)


def aligned(
    main: Sequence[Tensor | None], other: Sequence[Tensor | None], *, shared: bool = False
) -> list[Tensor | None]:
    """The sum of two gradients, after removing from the other one its part that opposes the main one.

    If ⟨g₁, g₂⟩ < 0 then g₂ becomes g₂ - (⟨g₁, g₂⟩ / ‖g₁‖²) g₁. g₁ never changes.

    Args:
        main: The gradient of the main loss for each parameter; None if the loss does not reach it.
        other: The gradient of the other loss, in the same form.
        shared: Measure over the parameters that both losses reach instead of all.
    """
    pairs = list(zip(main, other, strict=True))
    both = [(g1, g2) for g1, g2 in pairs if g1 is not None and g2 is not None]
    if not both:
        return [g2 if g1 is None else g1 for g1, g2 in pairs]
    product = torch.stack([(g1 * g2).sum() for g1, g2 in both]).sum()
    measured = [g1 for g1, _ in both] if shared else [g1 for g1 in main if g1 is not None]
    length = torch.stack([g1.square().sum() for g1 in measured]).sum()
    conflict = torch.where((product < 0) & (length > 0), product / length.clamp(min=1e-30), torch.zeros_like(length))
    found: list[Tensor | None] = []
    for g1, g2 in pairs:
        if g1 is None or g2 is None:
            alone = g2 if g1 is None else g1 if shared else (1 - conflict) * g1
            found.append(alone)
        else:
            found.append((1 - conflict) * g1 + g2)
    return found


def _over_classes(values: Float[Tensor, "sample classes"], reduction: Reduction) -> Scalar:
    return (values.sum(dim=1) if reduction == "sum" else values.mean(dim=1)).mean()
