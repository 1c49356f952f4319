"""A linear classifier on frozen features, as a last stage of a method: how it is trained, and its losses."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.settings import Range, Settings
from attar.core.training import half_cosine

LINEAR = "linear"
"""The name of the head that classifies frozen features; it is trained last."""
Loss = Literal["auto", "cross-entropy", "bce", "focal", "asl"]


@dataclass(frozen=True, kw_only=True)
class Linear(Settings):
    """Settings of the linear classifier. Its samples are not augmented."""

    epochs: Annotated[int, Range(0)] = 0
    """Passes over the frozen features of the training samples. 0: no classifier is trained."""
    loss: Loss = "auto"
    """Loss: cross-entropy for samples of one label; bce, focal or asl for samples of several. auto: cross-entropy, or
    asl."""
    lr: Annotated[float, Range(0)] = 1e-2
    """Step size of Adam, which falls along half a cosine."""
    weight_decay: Annotated[float, Range(0)] = 1e-4
    """Weight decay."""
    batch: Annotated[int, Range(1)] = 256
    """Samples per step."""

    def resolve(self, source: Any) -> Self:
        """The loss for these labels.

        Raises:
            InputError: The samples have no labels, or the loss is for others.
        """
        if not self.epochs:
            return self
        if source.labelled == "none":
            raise InputError(f"linear.epochs is {self.epochs}, but {source.name} has no labels.")
        return dataclasses.replace(self, loss=loss_for(source, self.loss, "asl", flag="linear.loss"))

    def steps_per_epoch(self, samples: int) -> int:
        """Steps of one pass."""
        return math.ceil(samples / self.batch)

    def steps(self, samples: int) -> int:
        """Steps in all."""
        return self.epochs * self.steps_per_epoch(samples)

    def lr_at(self, step: int, samples: int) -> float:
        """The step size of a step, counted from zero."""
        return self.lr * half_cosine(step, self.steps(samples))

    def optimizer_of(self, learned: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser."""
        return torch.optim.Adam(learned, self.lr, weight_decay=self.weight_decay)


class LinearClassifier(nn.Module):
    """A linear layer on standardised features, which is linear in the features too.

    Standardising makes one step size fit features of any scale. Weights start at zero, because the problem is convex.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.layer = nn.Linear(width, classes)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    @torch.no_grad()
    def fit_scale_(self, features: Float[Tensor, "sample width"]) -> None:
        """Take mean and standard deviation of these features. A constant feature keeps its scale."""
        found = features.double()
        std = found.std(dim=0, correction=0)
        varies = std > 1e-6 * (found.abs().amax(dim=0) + 1e-12)
        self.mean.copy_(found.mean(dim=0))
        self.std.copy_(torch.where(varies, std, torch.ones_like(std)))

    def forward(self, features: Float[Tensor, "sample width"]) -> Float[Tensor, "sample classes"]:
        """The logits of features."""
        return self.layer((features - self.mean) / self.std)


def loss_for(source: Any, loss: Loss, several: Loss, *, flag: str) -> Loss:
    """The loss for the labels of a source.

    Args:
        source: The samples.
        loss: What was asked for.
        several: What auto is for samples of several labels; for samples of one it is cross-entropy.
        flag: The name of the setting, for messages.

    Raises:
        InputError: The loss is for other labels.
    """
    if loss == "auto":
        return several if source.labelled == "several" else "cross-entropy"
    if (source.labelled == "several") == (loss == "cross-entropy"):
        label = "several labels" if source.labelled == "several" else "one label"
        raise InputError(f"{flag} is {loss}, but a sample of {source.name} has {label}.")
    return loss


def classification_loss(logits: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """The loss of one batch, averaged over samples; losses of several labels are summed over classes.

    Args:
        logits: `[sample, classes]`.
        labels: The class of each sample, or a row of yes or no for each.
        loss: Which; not "auto".
    """
    from attar.embeddings.multilabel.asl import ASL_SCRIPT, asymmetric_loss, bce_loss, focal_loss

    if loss == "cross-entropy":
        return F.cross_entropy(logits, labels)
    if loss == "bce":
        return bce_loss(logits, labels)
    return focal_loss(logits, labels) if loss == "focal" else asymmetric_loss(logits, labels, **ASL_SCRIPT)
