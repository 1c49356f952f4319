"""What all losses of margins share: margins of scores or logits, checks of labels, and the base of their modules."""

import math
from numbers import Real
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from attar.core.checks import Range, shown
from attar.core.errors import InputError
from attar.core.precision import at_least_float32

Scores = Float[Tensor, "*_scores"]
"""One score for each sample, `[sample]` or `[sample, 1]`, or logits `[sample, classes]`. Their shape is checked, with a
message."""
Targets = Shaped[Tensor, "*_targets"]
"""Labels of two classes as 0 and 1, -1 and 1, or booleans; or numbers of classes."""


class MarginLoss(nn.Module):
    """A loss of margins, as a module for any loop and for attar's own training."""

    settings: ClassVar[tuple[str, ...]] = ()
    """Names of the settings of attar's training that the constructor takes."""
    pseudo: ClassVar[bool] = False
    """Whether only the gradient has a meaning, and depends on all samples of a batch at once."""

    def of_margins(self, margins: Float[Tensor, "*margins"], drawn: Tensor | None = None) -> Float[Tensor, "*margins"]:
        """The loss of each margin."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The settings."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)

    def drawn(self, samples: int, classes: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Random numbers for a batch, for those who draw them apart, as under `torch.vmap`. None: there are none."""
        return None

    def values(
        self, logits: Float[Tensor, "sample classes"], labels: Int[Tensor, " sample"], drawn: Tensor | None = None
    ) -> Float[Tensor, " sample"]:
        """The loss of each sample.

        Args:
            logits: One logit of the second of two classes, or one of each class. Of two, the margin is that of their
                difference; of more, each class against the rest, averaged.
            labels: Numbers of classes. They are not checked.
            drawn: Numbers of `drawn`. Default: they are drawn now.
        """
        found = self.of_margins(margins_of(logits, labels), drawn)
        return found if found.ndim == 1 else found.mean(dim=1)

    def forward(
        self, scores: Scores, target: Targets, sample_weight: Float[Tensor, " sample"] | None = None
    ) -> Float[Tensor, ""]:
        """The mean loss of a batch.

        Args:
            scores: Scores of the second of two classes, `[sample]` or `[sample, 1]`, without a sigmoid; or logits
                `[sample, classes]`.
            target: Labels: 0 and 1, -1 and 1, or booleans; numbers of classes with logits.
            sample_weight: A weight for each sample. The mean is that of the weighted samples.

        Raises:
            InputError: Shapes do not fit, or a label is none.
        """
        if scores.ndim == 2 and scores.shape[1] > 1:
            values = self.values(scores, checked_classes(scores, target))
        else:
            values = self.of_margins(margins_of_scores(scores, target))
        return weighted_mean(values, sample_weight)


def margins_of(logits: Float[Tensor, "sample classes"], labels: Int[Tensor, " sample"]) -> Float[Tensor, "*margins"]:
    """Margins s = y f: of one logit, of the difference of two, or of each of several against the rest."""
    logits = at_least_float32(logits)
    if logits.shape[-1] > 2:
        right = labels.unsqueeze(-1) == torch.arange(logits.shape[-1], device=labels.device)
        return torch.where(right, logits, -logits)
    score = logits[..., -1] if logits.shape[-1] == 1 else logits[..., 1] - logits[..., 0]
    return torch.where(labels == 1, score, -score)


def margins_of_scores(scores: Scores, target: Targets) -> Float[Tensor, " sample"]:
    """Margins s = y f of scores of two classes.

    Raises:
        InputError: Shapes do not fit, or a label is neither 0 nor 1, nor -1 or 1.
    """
    flat = {"scores": scores, "labels": target}
    for what, tensor in flat.items():
        if tensor.ndim not in (1, 2) or (tensor.ndim == 2 and tensor.shape[1] != 1):
            raise InputError(f"{what} have shape {tuple(tensor.shape)}; give [sample] or [sample, 1].")
    if len(scores) != len(target) or not len(scores):
        raise InputError(f"there are {len(scores)} scores and {len(target)} labels. Give a label for each score.")
    return at_least_float32(scores.flatten()) * signs_of(target.flatten()).to(scores.device)


def signs_of(target: Shaped[Tensor, " sample"]) -> Float[Tensor, " sample"]:
    """Labels of two classes as -1 and 1.

    Raises:
        InputError: A label is neither 0 nor 1, nor -1 or 1.
    """
    lowest = -1 if bool((target == -1).any()) else 0
    odd = ~((target == lowest) | (target == 1))
    if bool(odd.any()):
        raise InputError(f"a label is {float(target[odd][0]):g}; give 0 and 1, or -1 and 1.")
    return torch.where(target == 1, 1.0, -1.0)


def checked_classes(logits: Float[Tensor, "sample classes"], target: Targets) -> Int[Tensor, " sample"]:
    """Numbers of classes, one for each row of logits.

    Raises:
        InputError: They are something else.
    """
    if target.ndim != 1 or len(target) != len(logits) or not len(target):
        raise InputError(
            f"logits have shape {tuple(logits.shape)} and labels {tuple(target.shape)}; give [sample, classes] and "
            "[sample]."
        )
    if target.is_floating_point() or target.is_complex():
        raise InputError(f"labels are of type {target.dtype}; give the number of a class for each sample.")
    labels = target.long()
    odd = (labels < 0) | (labels >= logits.shape[1])
    if bool(odd.any()):
        raise InputError(f"a label is {int(labels[odd][0])}; classes are 0 to {logits.shape[1] - 1}.")
    return labels


def weighted_mean(values: Float[Tensor, " sample"], weight: Tensor | None) -> Float[Tensor, ""]:
    """The mean of values with weights.

    Raises:
        InputError: There is not a weight for each value, one is below zero or not finite, or all are zero.
    """
    if weight is None:
        return values.mean()
    if weight.numel() != values.numel():
        raise InputError(f"there are {weight.numel()} weights for {values.numel()} samples. Give one for each.")
    weight = weight.flatten().to(values)
    if not bool(((weight >= 0) & weight.isfinite()).all()) or not bool(weight.sum() > 0):
        raise InputError("weights of samples must be finite and at least 0, and one above 0.")
    return (weight * values).sum() / weight.sum()


def checked_setting(name: str, value: Any, least: float = 0.0, most: float = math.inf) -> float:
    """A number in its range.

    Raises:
        InputError: It is none.
    """
    number = float(value) if isinstance(value, Real) else math.nan
    if not math.isfinite(number) or not least <= number <= most:
        allowed = "a finite number" if math.isinf(least) else Range(least, most)
        raise InputError(f"{name} is {shown(value)}; it must be {allowed}.")
    return number
