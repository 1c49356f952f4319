"""How networks are trained on images: the field's protocols, by name and number by number."""

from dataclasses import dataclass
from typing import Annotated, Literal

from attar.core.errors import named
from attar.core.settings import Hidden, Range, Settings
from attar.core.training import after_cuts, half_cosine


@dataclass(frozen=True, kw_only=True)
class Protocol(Settings):
    """How a network is trained: SGD with cross-entropy, the step size cut once, DSA on every batch, unless said."""

    name: Annotated[str, Hidden()]
    """What the protocol is called in scores and cards."""
    epochs: Annotated[int, Range(1)]
    """Passes over the training images."""
    batch: Annotated[int, Range(1)] = 256
    """Images per step, or all of a smaller set."""
    lr: Annotated[float, Range(0)] = 0.01
    """Step size."""
    momentum: Annotated[float, Range(0, 1)] = 0.9
    """Momentum; it starts again from zero when the step size is cut, as in the field's code."""
    weight_decay: Annotated[float, Range(0)] = 5e-4
    """Weight decay."""
    cut_after: Annotated[float, Range(0, 1)] = 0.5
    """Share of the epochs after which the step size is multiplied by a tenth."""
    augmented: bool = True
    """Whether every batch is augmented."""
    augmentation: Literal["dsa", "crop", "tiles"] = "dsa"
    """DSA; random resized crops and flips; or RDED's, which shuffles tiles and then crops no less than one of them."""
    align_corners: bool = False
    """DSA's corner convention (see `augment`)."""
    mix: Literal["none", "cutmix", "mixup"] = "none"
    """How images of a batch are mixed, and stored labels with them."""
    target: Literal["label", "teacher", "stored"] = "label"
    """What a network learns: the set's labels by cross-entropy; what a teacher that comes with the set says of every
    augmented image; or what one has said, from labels stored for many views, whose augmentation and mix are theirs."""
    distance: Literal["kl", "mse"] = "kl"
    """From a teacher's answers: KL divergence at temperature τ (no factor τ²), or the mean squared error of logits."""
    temperature: Annotated[float, Range(0.01)] = 20.0
    """τ of a teacher's labels, in logits."""
    label_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the cross-entropy with the stored labels, mixed as their images are, beside a teacher's answers."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD, or AdamW with weight decay on matrices and kernels only."""
    schedule: Literal["cut", "cosine", "half-cosine"] = "cut"
    """The step size: cut once; a cosine to zero over the epochs; or half of that way, as in RDED's code."""

    @property
    def cut_epoch(self) -> int:
        """The first epoch, counted from zero, with the smaller step size: the field's script cuts after E//2 + 1."""
        return int(self.epochs * self.cut_after) + 2

    def lr_at(self, epoch: int) -> float:
        """The step size of an epoch, counted from zero."""
        if self.schedule == "cut":
            return self.lr * after_cuts(epoch, [self.cut_epoch])
        return self.lr * half_cosine(epoch / self.epochs * (0.5 if self.schedule == "half-cosine" else 1.0))


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(name="field", epochs=1000),
        Protocol(name="quick", epochs=100, lr=0.1),
        Protocol(name="ceiling", epochs=30, batch=64),
        Protocol(name="dc", epochs=300, augmented=False),
        Protocol(name="datadam", epochs=1801, batch=64),
        Protocol(
            name="rded",
            epochs=300,
            batch=50,
            lr=1e-3,
            weight_decay=0.01,
            augmentation="tiles",
            mix="cutmix",
            target="teacher",
            optimizer="adamw",
            schedule="half-cosine",
        ),
        Protocol(
            name="sre2l",
            epochs=300,
            batch=128,
            lr=1e-3,
            weight_decay=0.01,
            augmentation="crop",
            mix="cutmix",
            target="stored",
            optimizer="adamw",
            schedule="cosine",
        ),
        Protocol(
            name="hello",
            epochs=300,
            batch=100,
            lr=1e-3,
            weight_decay=0.01,
            augmentation="tiles",
            mix="cutmix",
            target="teacher",
            distance="mse",
            label_weight=0.1,
            optimizer="adamw",
            schedule="half-cosine",
        ),
    )
}
"""`field`: DM's and DSA's evaluation (the papers' 1,000 epochs; the scripts run one more). `quick`: a tenth of the
epochs at ten times the step size. `ceiling`: all the real data. `dc`: gradient matching without DSA. `datadam`: the
released DataDAM script's. `rded`: the released RDED scripts', at their batch for ten images per class. `sre2l`: from
stored labels, as CDA's authors evaluate (SRe2L's batch is 1,024). `hello`: `rded` by squared error of logits, with a
tenth of the stored labels' cross-entropy (a weight that is ours)."""


def protocol_named(name: "str | Protocol") -> Protocol:
    """A protocol by name.

    Raises:
        InputError: No such protocol.
    """
    return named("protocol", name, PROTOCOLS)
