"""A projector from images to labels: a frozen encoder, class features as its head, and small low-rank deltas on both.

It takes the place of stored soft labels: kilobytes that do not grow with images or epochs, over an encoder that
everybody has. Yu, Liu, Chen, Ye and Wang, Heavy Labels Out! Dataset Distillation with Label Space Lightening,
ICCV 2025, arXiv:2408.08201.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core import store
from attar.core.errors import InputError
from attar.images.data.whiten import Transform
from attar.images.labels import captions
from attar.images.labels.encoders import TINY, Encoder, Head, Images, open_encoder
from attar.images.labels.lowrank import Factors, Storage, fold_, packed, unpacked
from attar.images.networks.blocks import Logits, Shape
from attar.images.training import TrainedNetwork

FILE = "projector.safetensors"
EPOCHS = 300
"""For how long students are trained whose labels are stored, in the tables of the field."""
HeadKind = Literal["text", "text-stored", "mean"]


class Labeller(nn.Module):
    """Logits s · n(E(x)) W + o of network input x, with n(u) = u / ‖u‖.

    With CLIP's scale for s, nothing for o, and the features of each class's caption for W it is CLIP's zero-shot
    classifier. E stays in evaluation mode.

    Args:
        look: From the data set's network input to what the encoder sees.
        encoder: E, any module that gives features.
        head: W, the features of each class.
        scale: s.
        normalised: Whether features are brought to length one.
    """

    def __init__(
        self, look: nn.Module, encoder: nn.Module, head: Head, *, scale: float, normalised: bool = True
    ) -> None:
        super().__init__()
        self.look, self.encoder, self.normalised = look, encoder, normalised
        self.head = nn.Linear(head.shape[1], head.shape[0], bias=False)
        self.head.weight = nn.Parameter(head.clone())
        self.scale, self.offset = nn.Parameter(torch.tensor(scale)), nn.Parameter(torch.tensor(0.0))
        self.eval().requires_grad_(False)

    def embed(self, images: Images) -> Float[Tensor, "batch feature"]:
        """What the head sees."""
        features = self.encoder(self.look(images)).float()
        return F.normalize(features, dim=1) if self.normalised else features

    def forward(self, images: Images) -> Logits:
        """Logits."""
        return self.scale * self.head(self.embed(images)) + self.offset


@torch.no_grad()
def match_(labeller: Labeller, answers: Logits, wanted: Logits) -> None:
    """Bring the labeller's scale and offset to the spread and mean of the logits that it is to give.

    Squared error sees both; CLIP's logits are all positive and narrow, and a fit that starts there ends worse than
    hard labels.

    Args:
        labeller: What is changed.
        answers: Its logits.
        wanted: The logits it is to give of the same images.
    """
    share = wanted.std() / answers.std().clamp_min(1e-6)
    labeller.offset.copy_(wanted.mean() - share * (answers.mean() - labeller.offset))
    labeller.scale.mul_(share)


@dataclass(frozen=True)
class Base:
    """What a projector is built on, and what it is for."""

    encoder: str
    """The encoder's name: a folder, a name on the hub, or `tiny`."""
    weights: str
    """The digest of its weights."""
    head: HeadKind
    caption: str
    words: str
    """The digest of the captions as the encoder reads them, where the head is made of them again."""
    classes: tuple[str, ...]
    shape: Shape
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def transform(self) -> Transform:
        """How the data set's pixels became network input."""
        return Transform(self.mean, self.std)


@dataclass
class Projector:
    """Low-rank factors, scale and offset, with what they are built on; the labels of a set that carries it."""

    base: Base
    tensors: dict[str, Tensor]
    """As they are stored: factors, `scale`, `offset`, and `head` where it is stored."""
    encoder: Encoder | None = field(default=None, compare=False)
    """The encoder where it is at hand; otherwise it is looked for when it is first needed."""
    folder: Path | None = field(default=None, compare=False)
    """Where it was read from."""

    @classmethod
    def of(cls, encoder: Encoder, base: Base, factors: Factors, head: Head, storage: Storage) -> "Projector":
        """A projector of what was learned.

        Args:
            encoder: The encoder, without deltas.
            base: What it is built on.
            factors: Low-rank factors, `scale` and `offset`.
            head: Class features, without their delta.
            storage: How the low-rank factors are stored; scale and offset are floats of 32 bits, the head of 16.
        """
        plain = {name: factors[name].detach().cpu().float().clone() for name in ("scale", "offset")}
        kept = {} if base.head == "text" else {"head": head.detach().cpu().half()}
        learned = {name: value for name, value in factors.items() if name not in plain}
        return cls(base, {**packed(learned, storage), **plain, **kept}, encoder)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes it tells apart."""
        return self.base.classes

    @property
    def carries(self) -> bool:
        """Whether its encoder goes along with it, because nobody else has it."""
        return self.base.encoder == TINY

    @property
    def opened(self) -> Encoder:
        """Its encoder.

        Raises:
            InputError: It is not to be had, or another one lies there.
        """
        if self.encoder is None:
            base = self.base
            found = open_encoder(base.encoder, base.shape, base.transform, self.folder)
            if found.digest != base.weights:
                raise InputError(f"the weights of the encoder {base.encoder} differ from those the projector needs.")
            if base.head == "text" and found.words(base.caption, base.classes) != base.words:
                raise InputError(
                    f"the encoder {base.encoder} splits captions into other tokens than when the projector was fitted."
                )
            self.encoder = found
        return self.encoder

    @cached_property
    def network(self) -> Labeller:
        """Network input of the set to logits, the deltas folded in."""
        encoder, base = self.opened, self.base
        head = self.tensors["head"].float() if "head" in self.tensors else encoder.text_head(base.caption, base.classes)
        labeller = Labeller(encoder.look, copy.deepcopy(encoder.tower), head, scale=float(self.tensors["scale"]))
        fold_(labeller, unpacked({n: v for n, v in self.tensors.items() if n not in ("scale", "offset", "head")}))
        labeller.offset.copy_(self.tensors["offset"])
        return labeller

    @property
    def bytes(self) -> int:
        """What its numbers take, without the encoder."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def parts(self) -> list[dict[str, Tensor]]:
        """What goes along with a set, file by file: its numbers, and an encoder that nobody else has."""
        clip = self.opened.clip if self.carries else None
        return [self.tensors, clip.model.state_dict()] if clip else [self.tensors]

    def note(self, images: int) -> str:
        """What a card says of it.

        Args:
            images: How many images it is to label.
        """
        stored = label_bytes(EPOCHS, images, len(self.classes))
        carried = "is included and counted" if self.carries else "is not counted"
        return (
            f"The projector in `teacher/` labels augmented images. It takes {self.bytes:,} bytes; soft labels for "
            f"{EPOCHS} epochs would take {stored:,}. Its encoder, {self.base.encoder}, {carried}."
        )

    def save(self, folder: Path) -> str:
        """Write it to a folder, with an encoder that nobody else has; return its digest."""
        if self.carries and self.opened.clip:
            self.opened.clip.save(folder)
        return store.write_tensors(folder / FILE, self.tensors, asdict(self.base))

    @classmethod
    def load(cls, folder: Path, *, digest: str | None = None) -> "Projector":
        """Read what `save` wrote, and see that it is the file of that digest. The encoder is looked for later.

        Raises:
            InputError: The file is missing, damaged, or another one.
        """
        path = folder / FILE
        tensors, plain = store.read_tensors(path)
        if digest is not None and store.digest_of(tensors, plain) != digest:
            raise InputError(f"{path} is not the file that artefact.json describes.")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
        return cls(Base(**values), tensors, folder=folder)


Teacher = TrainedNetwork | Projector
"""What may label a set."""
FILES = ("network.safetensors", FILE, captions.FILE)
"""What teachers are saved to."""


def load_teacher(folder: Path, *, digest: str, classes: Sequence[str]) -> Teacher:
    """Read the teacher of a set.

    Raises:
        InputError: It is missing, damaged, another one, or one of other classes.
    """
    kind: Any = Projector if (folder / FILE).exists() else TrainedNetwork
    teacher: Teacher = kind.load(folder, digest=digest)
    if teacher.classes != tuple(classes):
        raise InputError(f"the teacher in {folder} has {len(teacher.classes)} classes, which are not those of the set.")
    return teacher


def label_bytes(epochs: int, images: int, classes: int) -> int:
    """What soft labels of every image and epoch take in floats of 16 bits: 2 · E · N · C."""
    return 2 * epochs * images * classes
