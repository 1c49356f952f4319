"""Training protocols for networks on images: the field's protocols by name, with all their numbers."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from attar.core.errors import named
from attar.core.settings import Hidden, Range, Settings
from attar.core.training import after_cuts, half_cosine


@dataclass(frozen=True, kw_only=True)
class Protocol(Settings):
    """Training of a network. By default: SGD, cross-entropy, a step size that is cut once, and DSA on every batch."""

    name: Annotated[str, Hidden()]
    """Name of the protocol in scores and cards."""
    epochs: Annotated[int, Range(1)]
    """Passes over the training images."""
    batch: Annotated[int, Range(1)] = 256
    """Number of images per step; a smaller set is used whole."""
    lr: Annotated[float, Range(0)] = 0.01
    """Step size."""
    momentum: Annotated[float, Range(0, 1)] = 0.9
    """Momentum. It starts again from zero when the step size is cut, as in the field's code."""
    weight_decay: Annotated[float, Range(0)] = 5e-4
    """Weight decay."""
    cut_after: Annotated[float, Range(0, 1)] = 0.5
    """Share of the epochs after which the step size is multiplied by a tenth."""
    augmented: bool = True
    """Whether to augment every batch."""
    augmentation: Literal["dsa", "crop", "tiles"] = "dsa"
    """Kind of augmentation. dsa: DSA. crop: random resized crops and flips. tiles: RDED's, which shuffles tiles and
    then takes a random resized crop at least as large as a tile."""
    align_corners: bool = False
    """Corner convention of DSA (see `augment`)."""
    mix: Literal["none", "cutmix", "mixup"] = "none"
    """Mixing of the images of a batch. Labels are mixed in the same way."""
    target: Literal["label", "teacher", "stored"] = "label"
    """What a network learns. label: the set's labels, by cross-entropy. teacher: the logits of the set's teacher for
    every augmented image. stored: a teacher's logits that were stored for many views; their augmentation and mix are
    used."""
    distance: Literal["kl", "mse"] = "kl"
    """Distance from a teacher's logits: KL divergence at temperature τ without the factor τ² (kl), or mean squared
    error (mse)."""
    temperature: Annotated[float, Range(0.01)] = 20.0
    """Temperature of a teacher's logits, τ."""
    label_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the cross-entropy with the set's labels, which are mixed as the images are. The distance from a
    teacher's logits has weight 1."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimiser: SGD, or AdamW with weight decay on matrices and kernels only."""
    schedule: Literal["cut", "cosine", "half-cosine"] = "cut"
    """Schedule of the step size. cut: it is cut once. cosine: it falls to zero along a cosine. half-cosine: it falls
    along the first half of that cosine, as in RDED's code."""

    @property
    def cut_epoch(self) -> int:
        """The first epoch, counted from zero, with the smaller step size. The field's script cuts after E//2 + 1."""
        return int(self.epochs * self.cut_after) + 2

    def lr_at(self, epoch: int) -> float:
        """The step size of an epoch, counted from zero."""
        if self.schedule == "cut":
            return self.lr * after_cuts(epoch, [self.cut_epoch])
        return self.lr * half_cosine(epoch / self.epochs * (0.5 if self.schedule == "half-cosine" else 1.0))


RDED = Protocol(
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
)
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(name="field", epochs=1000),
        Protocol(name="quick", epochs=100, lr=0.1),
        Protocol(name="ceiling", epochs=30, batch=64),
        Protocol(name="dc", epochs=300, augmented=False),
        Protocol(name="datadam", epochs=1801, batch=64),
        RDED,
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
        replace(RDED, name="hello", batch=100, distance="mse", label_weight=0.1),
    )
}
"""`field`: DM's and DSA's evaluation (the papers' 1,000 epochs; the scripts run one more). `quick`: a tenth of the
epochs at ten times the step size. `ceiling`: training on all the real data. `dc`: gradient matching without DSA.
`datadam`: the protocol of the released DataDAM script. `rded`: the protocol of the released RDED scripts, with their
batch size for ten images per class. `sre2l`: training on stored labels, as CDA's authors evaluate (SRe2L's batch size
is 1,024). `hello`: `rded` with the squared error of logits and a tenth of the cross-entropy with the set's labels (a
weight that is ours)."""


def protocol_named(name: "str | Protocol") -> Protocol:
    """A protocol by name.

    Raises:
        InputError: There is no such protocol.
    """
    return named("protocol", name, PROTOCOLS)
