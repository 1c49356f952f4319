"""The losses of labels by name, as settings of every training of a classifier. This file does not import torch.

The losses themselves are parts (`attar.core.parts`): a training calls them and does not know where they lie.
"""

import dataclasses
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from attar.core.errors import InputError
from attar.core.parts import part_named
from attar.core.settings import Range, Settings

LossName = Literal[
    "cross-entropy",
    "bce",
    "hinge",
    "squared-hinge",
    "exponential",
    "log-hinge",
    "inv-hinge",
    "exp-hinge",
    "inverse-log-hinge",
    "focal",
    "ensloss",
]

OF: dict[str, LossName] = {
    **dict.fromkeys(("lam", "clip", "tail", "tail_power", "period"), "ensloss"),
    "gamma": "focal",
}
"""The loss that a setting belongs to."""


@dataclass(frozen=True, kw_only=True)
class Loss(Settings):
    """A loss of the labels."""

    name: LossName = "cross-entropy"
    """Loss. All but cross-entropy are losses of margins: of two classes of the difference of the logits, of more
    classes one class against the rest."""
    lam: float = 0.0
    """λ of the Box-Cox transform from which ensloss draws its derivatives. The paper uses 0."""
    clip: Annotated[float, Range(0)] | None = 1.0
    """Largest size of a derivative that ensloss draws. none: no limit."""
    tail: Literal["inverse", "log2", "none"] = "inverse"
    """How ensloss lowers derivatives at large margins s: by s^-p from 1 on (inverse), by 1/(s log² s) from e on (log2),
    or not at all."""
    tail_power: Annotated[float, Range(0)] = 1.0
    """Power p of that tail. The released code uses 1."""
    period: Annotated[int, Range(-1)] = -1
    """Number of epochs after which ensloss draws λ anew, uniformly between -1 and 1. -1, as in all published runs:
    never."""
    gamma: Annotated[float, Range(0)] = 2.0
    """Power γ of the focal loss."""

    itself = "name"

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in OF and value != field.default and self.name != OF[field.name]:
                raise InputError(f"{field.name} is {value}, but only {OF[field.name]} has it. Do not set it.")
        if self.tail != "inverse" and self.tail_power != 1:
            raise InputError(f"tail_power is {self.tail_power:g}, but only the inverse tail has it. Do not set it.")
        if self.clip is None and (self.lam < 0 or self.period > 0):
            what = f"lam is {self.lam:g}" if self.lam < 0 else f"period is {self.period}"
            raise InputError(f"{what}, and derivatives with λ below 0 can be infinite. Set clip.")

    def at(self, epoch: int, seed: int) -> Self:
        """The loss in an epoch, counted from zero: with the λ of its period."""
        if self.name != "ensloss" or self.period <= 0:
            return self
        from attar.core.seeds import derived_seed  # imports torch, which help does without

        share = derived_seed(seed, f"lam {epoch // self.period}") / 2**63
        return replace(self, lam=2 * share - 1)

    def built(self, smoothing: float = 0.0) -> Any:
        """The loss: a module with `values(logits, labels)`, the loss of each sample.

        Args:
            smoothing: Share of each label that is spread over all classes, if the loss takes it.
        """
        family = part_named(self.name, "loss").load()
        known = {**vars(self), "smoothing": smoothing}
        return family(**{name: known[name] for name in family.settings})


def cross_entropy(logits: Any, labels: Any) -> Any:
    """The cross-entropy of each sample, of one logit or of several."""
    return Loss().built().values(logits, labels)


def as_shown(built: Any, logits: Any, labels: Any, drawn: Any = None) -> Any:
    """The loss of each sample, as a training has and shows it.

    A pseudo-loss keeps its gradient, but its value has no meaning: it gets that of the cross-entropy, so that what is
    logged, shown and watched is never a pseudo-loss.

    Args:
        built: The loss.
        logits: A row for each sample.
        labels: Numbers of classes.
        drawn: What the loss has drawn for the batch, if that was done apart.
    """
    values = built.values(logits, labels, drawn)
    return values + (cross_entropy(logits, labels) - values).detach() if built.pseudo else values
