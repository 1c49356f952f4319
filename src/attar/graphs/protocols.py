"""Training protocols for networks on graphs: the field's protocols by name, with all their numbers."""

from dataclasses import dataclass
from typing import Annotated, Any, Self

from attar.core.errors import InputError, named
from attar.core.losses import LossName
from attar.core.protocols import left_open, told, whole
from attar.core.settings import Hidden, Range, Settings


@dataclass(frozen=True, kw_only=True)
class Protocol(Settings):
    """Settings of training a network."""

    name: Annotated[str, Hidden()] = "own"
    """Name of the protocol in tables."""
    epochs: Annotated[int, Range(1)] = 500
    """Number of epochs of training."""
    training_lr: Annotated[float, Range(0)] = 1e-3
    """Learning rate of Adam. It drops to a tenth after half of the epochs."""
    batch: Annotated[int, Range(1)] = 128
    """Batch size, in graphs."""
    look_every: Annotated[int, Range(1)] = 10
    """Number of epochs between two validations. Papers validate after each epoch, which costs more than training."""
    loss: LossName = "cross-entropy"
    """Loss of the labels. Cross-entropy of one output, as on the molecule sets, is bce."""
    dropout: Annotated[float, Range(0, 0.99)] = 0.0
    """Share of the features before the last linear layer that is dropped in training."""
    dropout_samples: Annotated[int, Range(1)] = 1
    """Number M of dropout masks for each sample, whose losses are averaged (multi-sample dropout)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.dropout_samples or 1) > 1 and self.dropout == 0:
            raise InputError(f"dropout_samples is {self.dropout_samples}, but nothing is dropped. Set dropout.")

    @property
    def told(self) -> str:
        """The protocol in words: its name, and what differs from the protocol of that name."""
        return told(self, PROTOCOLS)

    def lr_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from zero. It does not drop if there is only one epoch."""
        from attar.core.training import after_cuts  # imports torch, which help does without

        return self.training_lr * after_cuts(epoch, [max(1, self.epochs // 2)])

    def looks_after(self, epochs: int) -> bool:
        """Whether the network is validated after `epochs` epochs."""
        return epochs % self.look_every == 0 or epochs == self.epochs


PROTOCOLS = {
    "field": Protocol(name="field"),
    "molhiv": Protocol(name="molhiv", epochs=100),
    "quick": Protocol(name="quick", epochs=100),
}


@left_open
class Chosen(Protocol):
    """A protocol by its name, with some settings changed. Those that are None are as in the protocol of that name."""

    name: str | None = None  # type: ignore[assignment]
    """Protocol of training: field (500 epochs), or molhiv or quick (100 epochs)."""

    itself = "name"

    @classmethod
    def by(cls, name: str | None = None) -> Self:
        """The protocol of that name, or the usual one, unchanged."""
        return cls(**dict[str, Any](name=name))


def protocol_named(name: str | Protocol) -> Protocol:
    """The protocol of that name, or the given protocol itself.

    Raises:
        InputError: The name is unknown.
    """
    return whole(name, PROTOCOLS, "field") if isinstance(name, Chosen) else named("protocol", name, PROTOCOLS)
