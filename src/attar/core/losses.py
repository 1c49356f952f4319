"""The losses of labels by name, as settings of every training of a classifier. This file does not import torch.

The losses themselves are parts (`attar.core.parts`): a training calls them and does not know where they lie.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

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
    """How ensloss lowers derivatives at margins s above 1: by s^-p (inverse), by 1 / (s log² s) from e on (log2), or not
    at all."""
    tail_power: Annotated[float, Range(0)] = 1.0
    """Power p of that tail. The released code uses 1."""
    gamma: Annotated[float, Range(0)] = 2.0
    """Power γ of the focal loss."""

    itself = "name"

    def built(self) -> Any:
        """The loss: a module with `values(logits, labels)`, the loss of each sample."""
        family = part_named(self.name, "loss").load()
        wanted = {name: getattr(self, name) for name in family.settings}
        return family(**wanted)
