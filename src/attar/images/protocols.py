"""Training protocols for networks on images: the field's protocols by name, with all their numbers."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from attar.core.errors import InputError, named
from attar.core.losses import LossName
from attar.core.protocols import left_open, told, whole
from attar.core.settings import Hidden, Range, Settings


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
    """Share of the epochs after which the step size is cut."""
    cut: Annotated[float, Range(0, 1)] = 0.1
    """Factor of the step size at the cut."""
    cut_momentum: Annotated[float, Range(0, 1)] | None = None
    """Momentum after the cut. Default: as before it."""
    rise: Annotated[int, Range(0)] = 0
    """Number of epochs over which the step size rises first, from a hundredth; the schedule begins after them."""
    augmented: bool = True
    """Whether to augment every batch."""
    augmentation: Literal["dsa", "crop", "tiles", "shift"] = "dsa"
    """Kind of augmentation. dsa: DSA. crop: random resized crops and flips. tiles: RDED's, which shuffles tiles and
    then takes a random resized crop at least as large as a tile. shift: shifts and flips."""
    largest_shift: Annotated[float, Range(0, 1)] = 0.125
    """Largest shift of the crops of dsa and of shift, as a share of the side. What moves in is zero in dsa, black in
    shift."""
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
    squared: bool = False
    """Whether the KL divergence has the factor τ²."""
    teacher_statistics: Literal["running", "batch"] = "running"
    """Statistics of a teacher's batch norm: those of its training (running), or those of the batch that it labels
    (batch)."""
    label_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the cross-entropy with the set's labels, which are mixed as the images are. The distance from a
    teacher's logits has weight 1."""
    loss: LossName = "cross-entropy"
    """Loss of the set's labels. All but cross-entropy need one class for each image: no soft labels, and no mix."""
    dropout: Annotated[float, Range(0, 0.99)] = 0.0
    """Share of the features before the last linear layer that is dropped in training."""
    dropout_samples: Annotated[int, Range(1)] = 1
    """Number M of dropout masks for each sample, whose losses are averaged (multi-sample dropout)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimiser: SGD, or AdamW with weight decay on matrices and kernels only."""
    schedule: Literal["cut", "cosine", "half-cosine"] = "cut"
    """Schedule of the step size. cut: it is cut once. cosine: it falls to zero along a cosine. half-cosine: it falls
    along the first half of that cosine, as in RDED's code."""
    tested_on: Literal["whole", "centre"] = "whole"
    """What networks are tested on. whole: the test images. centre: their middle, after they are scaled up to side // 7
    · 8, as in RDED's code. At 8, 16 and 32 pixels there is no difference."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.dropout_samples or 1) > 1 and self.dropout == 0:
            raise InputError(f"dropout_samples is {self.dropout_samples}, but nothing is dropped. Set dropout.")
        if self.loss in (None, "cross-entropy"):
            return
        if self.target not in (None, "label"):
            raise InputError(f"loss is {self.loss}, but this protocol learns from a teacher. Do not set loss.")
        if self.mix not in (None, "none"):
            raise InputError(f"{self.loss} needs one class for each image. Do not set mix.")

    @property
    def cut_epoch(self) -> int:
        """The first epoch, counted from zero, with the smaller step size. The field's script cuts after E//2 + 1."""
        return int(self.epochs * self.cut_after) + 2

    def lr_at(self, epoch: int) -> float:
        """The step size of an epoch, counted from zero."""
        from attar.core.training import after_cuts, half_cosine  # imports torch, which help does without

        if epoch < self.rise:
            return self.lr * (0.01 + 0.99 * epoch / self.rise)
        if self.schedule == "cut":
            return self.lr * after_cuts(epoch, [self.cut_epoch], self.cut)
        way = (epoch - self.rise) / (self.epochs - self.rise)
        return self.lr * half_cosine(way * (0.5 if self.schedule == "half-cosine" else 1.0))

    @property
    def told(self) -> str:
        """The protocol in words: its name, and what differs from the protocol of that name."""
        return told(self, PROTOCOLS)

    @property
    def slug(self) -> str:
        """The protocol in a part of a file name."""
        return self.told.replace("-", "~").replace(", ", "+").replace(" ", "=")


FIELD = Protocol(name="field", epochs=1000)
DATM = replace(FIELD, name="datm", batch=128)
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
CENTRED = replace(RDED, tested_on="centre")
SRE2L = replace(RDED, name="sre2l", batch=128, augmentation="crop", target="stored", schedule="cosine")
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        FIELD,
        Protocol(name="quick", epochs=100, lr=0.1),
        Protocol(name="ceiling", epochs=30, batch=64),
        Protocol(name="dc", epochs=300, augmented=False),
        Protocol(name="datadam", epochs=1801, batch=64),
        DATM,
        replace(DATM, name="edf", largest_shift=0.25),
        replace(FIELD, name="ast", weight_decay=1e-3, cut=0.5, cut_momentum=0.8),
        RDED,
        replace(RDED, name="rded-ipc1", batch=10),
        replace(RDED, name="rded-ipc50", batch=100),
        replace(RDED, name="rded-cifar100", batch=25, lr=2e-3),
        replace(CENTRED, name="rded-tiny", batch=100),
        replace(CENTRED, name="rded-imagenette-ipc1", batch=10),
        replace(CENTRED, name="rded-imagenette"),
        replace(CENTRED, name="rded-imagenette-ipc50", batch=100),
        replace(CENTRED, name="rded-imagenet-ipc1", batch=20),
        replace(CENTRED, name="rded-imagenet", batch=100),
        replace(CENTRED, name="rded-imagenet-ipc50", batch=200),
        SRE2L,
        replace(SRE2L, name="sre2l-imagenet", batch=1024),
        replace(
            SRE2L,
            name="sre2l-cifar",
            epochs=400,
            augmentation="shift",
            mix="mixup",
            target="teacher",
            temperature=30.0,
            teacher_statistics="batch",
        ),
        Protocol(
            name="sre2l-tiny",
            epochs=100,
            lr=0.2,
            weight_decay=1e-4,
            rise=5,
            augmentation="crop",
            target="teacher",
            squared=True,
            schedule="cosine",
        ),
        replace(RDED, name="hello", batch=100, distance="mse", label_weight=0.1),
    )
}
"""`field`: DM's and DSA's evaluation (the papers' 1,000 epochs; the scripts run one more). `quick`: a tenth of the
epochs at ten times the step size. `ceiling`: training on all the real data. `dc`: gradient matching without DSA.
`datadam`: the protocol of the released DataDAM script. `datm`: that of DATM's and EDF's files, and `edf` with the wide
crops of EDF's code. `ast`: that of AST's code, which reports the best of many tests; here it is the last.
`rded`: the released RDED scripts for ten images per class of ten classes. Their batches depend on the data: `rded-ipc1`
and `rded-ipc50`; `rded-cifar100` for its ConvNet; `rded-tiny`; `rded-imagenette` and its like for ten classes of
ImageNet; `rded-imagenet` and its like for a hundred or a thousand. From 64 pixels on they test on centres.
`sre2l`: training on stored labels, as CDA's authors evaluate. SRe2L's own forms are `sre2l-imagenet`; `sre2l-cifar`,
whose teacher labels with statistics of the batch; and `sre2l-tiny`, which learns from the teacher by SGD.
`hello`: `rded` with the squared error of logits and a tenth of the cross-entropy with the set's labels (a weight that
is ours)."""


@left_open
class Chosen(Protocol):
    """A protocol by its name, with some settings changed. Those that are None are as in the protocol of that name."""

    name: str | None = None  # type: ignore[assignment]
    """Protocol of training: field (1,000 epochs), quick (100), dc, datadam, datm, edf or ast. rded and hello train on a
    teacher's answers, sre2l on stored ones; they have forms for data and sizes, such as rded-tiny and sre2l-cifar."""

    itself = "name"

    @classmethod
    def by(cls, name: str | None = None) -> Self:
        """The protocol of that name, or the usual one, unchanged."""
        return cls(**dict[str, Any](name=name))

    def whole(self, usual: str = "field") -> Protocol:
        """The protocol with all its settings.

        Args:
            usual: The name, if none is given.

        Raises:
            InputError: There is no protocol of that name.
        """
        return whole(self, PROTOCOLS, usual)


def protocol_named(name: "str | Protocol") -> Protocol:
    """A protocol by name, or with changes.

    Raises:
        InputError: There is no such protocol.
    """
    return name.whole() if isinstance(name, Chosen) else named("protocol", name, PROTOCOLS)
