"""DHKD: cross-entropy on one head, a loss on raw logits on a second one that is thrown away.

The two pull a single classifier apart at large step sizes; on two heads they share only the features. Read it beside
plain KD, and at several step sizes: where one head does not collapse, it is as good.
Yang, Zong, Huang, Feng and An, Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an Auxiliary Head,
KDD 2025, arXiv:2411.08937.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.classifiers.distillation import Distillation
from attar.classifiers.kd import Logits, Scalar
from attar.classifiers.pair import Batch, Distilling, Terms
from attar.classifiers.schedules import row_of, schedule
from attar.classifiers.watched import Answers
from attar.core.settings import Range

Reduction = Literal["sum", "mean"]


@dataclass(frozen=True, kw_only=True)
class DHKD(Distillation):
    """Keep cross-entropy and a loss on raw logits on two heads (Yang et al., KDD 2025, arXiv:2411.08937).

    L = CE(z, y) + α L(a, t), z the kept head's logits and a the auxiliary head's; L is BinaryKL-Norm, or BinaryKL.
    """

    teacher_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the teacher's answers, α, on the auxiliary head (0.1 on ImageNet): the loss is a sum over classes."""
    temperature: Annotated[float, Range(0.01)] = 2.0
    """Temperature that softens answers, τ."""
    loss: Literal["norm", "binary", "squared"] = "norm"
    """BinaryKL-Norm; BinaryKL; or the limit of both for τ → ∞, an eighth of the squared error of logits (Ba and
    Caruana, NeurIPS 2014, arXiv:1312.6184), which is the plain rival."""
    head: Literal["nonlinear", "linear", "shared"] = "nonlinear"
    """The auxiliary head; shared: the kept one, which is the paper's counter-example."""
    alignment: Literal["on", "off", "backbone"] = "on"
    """Whether the part of α's gradient that is against the labels' is taken out of it: measured over all parameters (as
    released, which also makes the kept head's step longer), or over those that both losses reach."""
    class_reduction: Literal["sum", "mean"] = "sum"
    """Whether the loss is a sum or a mean over classes."""
    stop_at: Annotated[float, Range(0, 1)] = 1.0
    """Share of the epochs after which α is 0 (half in the ImageNet script)."""

    moved = MappingProxyType({**Distillation.moved, "alpha": "teacher_weight"})
    name = "dhkd"

    def connectors(self, student: Answers, teacher: Answers) -> dict[str, nn.Module]:
        """The auxiliary head."""
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
        if self.loss == "squared":
            return {"teacher": self.teacher_weight * squared_error(logits, wanted, self.class_reduction)}
        distance = binary_kl_norm if self.loss == "norm" else binary_kl
        return {"teacher": self.teacher_weight * distance(logits, wanted, self.temperature, self.class_reduction)}

    @property
    def changes_gradients(self) -> bool:
        """Where they are aligned."""
        return self.alignment != "off"

    def total(self, terms: Terms, state: Distilling) -> Scalar:
        """The sum of the terms, in value; in gradient that of both, aligned if they are to be."""
        if not self.changes_gradients or len(terms) < 2:
            return super().total(terms, state)
        learned = list(state.learned())
        main, other = (
            torch.autograd.grad(terms[name], learned, retain_graph=name == "labels", allow_unused=True)
            for name in ("labels", "teacher")
        )
        gradients = aligned(main, other, shared=self.alignment == "backbone")
        pairs = zip(learned, gradients, strict=True)
        carrier = torch.stack([(p * g).sum() for p, g in pairs if g is not None]).sum()
        return (terms["labels"] + terms["teacher"]).detach() + (carrier - carrier.detach())

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of the authors' two example commands; those of other pairs are not known.

        Args:
            data: cifar100 (resnet32x4 to shufflenetv2) or imagenet (resnet34 to resnet18).

        Raises:
            InputError: Another data set.
        """
        rows: dict[str, dict[str, Any]] = {
            "cifar100": schedule("resnet32x4-shufflenetv2"),
            "imagenet": {
                **schedule("resnet34-resnet18"),
                **{
                    "batch": 128,
                    "lr": 0.1,
                    "teacher_weight": 0.1,
                    "head": "linear",
                    "alignment": "off",
                    "stop_at": 0.5,
                },
            },
        }
        return cls(**row_of(rows, data, "DHKD", any_pair=False))


class AuxiliaryHead(nn.Sequential):
    """The second head: linear; or, for networks that differ much, with a hidden layer, dropout and batch norm."""

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
    """The logarithm of cosh u: |u| + softplus(-2|u|) - log 2, which does not overflow."""
    size = values.abs()
    return size + F.softplus(-2 * size) - math.log(2)


def binary_kl_norm(student: Logits, teacher: Logits, temperature: float = 2.0, classes: Reduction = "sum") -> Scalar:
    """BinaryKL-Norm: τ² Σ_c KL(Bern(1/2) ‖ Bern(σ((a_c - t_c) / τ))), averaged over samples.

    In closed form τ² Σ_c log cosh((a_c - t_c) / 2τ), whose gradient τ/2 tanh(·) is bounded. For τ → ∞ it is an eighth
    of the squared error, for τ → 0 half of τ times the absolute one.
    """
    return temperature**2 * _over_classes(log_cosh((student - teacher.detach()) / (2 * temperature)), classes)


def squared_error(student: Logits, teacher: Logits, classes: Reduction = "sum") -> Scalar:
    """Σ_c (a_c - t_c)² / 8, averaged over samples: what both become for τ → ∞."""
    return _over_classes((student - teacher.detach()).square() / 8, classes)


def aligned(
    main: Sequence[Tensor | None], other: Sequence[Tensor | None], *, shared: bool = False
) -> list[Tensor | None]:
    """The sum of two gradients, the other's part against the main one taken out of it.

    If ⟨g₁, g₂⟩ < 0 then g₂ becomes g₂ - (⟨g₁, g₂⟩ / ‖g₁‖²) g₁; g₁ never changes.

    Args:
        main: The gradient of the main loss, parameter by parameter; None where it does not reach.
        other: That of the other loss.
        shared: Over the parameters that both reach, and not over all.
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
