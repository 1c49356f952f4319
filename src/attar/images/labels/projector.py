"""A projector from images to labels: a frozen encoder, class features as its head, and small low-rank deltas on both.

It replaces stored soft labels. It takes kilobytes, which do not grow with images or epochs, if the encoder is publicly
available. Yu, Liu, Chen, Ye and Wang, Heavy Labels Out! Dataset Distillation with Label Space Lightening, ICCV 2025,
arXiv:2408.08201.
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
from attar.images import carried
from attar.images.carried import CarriedTeacher
from attar.images.data.whiten import Transform
from attar.images.labels import captions
from attar.images.labels.encoders import TINY, Encoder, Head, Images, open_encoder
from attar.images.labels.lowrank import Factors, Storage, fold_, packed, unpacked
from attar.images.networks.blocks import Logits, Shape
from attar.images.training import TrainedNetwork

FILE = "projector.safetensors"
EPOCHS = 300
"""Number of epochs of students with stored labels in the tables of papers."""
HeadKind = Literal["text", "text-stored", "mean"]


class Labeller(nn.Module):
    """A network with logits s · n(E(x)) W + o of network input x, with n(u) = u / ‖u‖.

    It is CLIP's zero-shot classifier if s is CLIP's scale, o is zero, and W holds the features of each class's caption.
    E stays in evaluation mode.

    Args:
        look: The map from the data set's network input to the encoder's input.
        encoder: The encoder E, any module that gives features.
        head: The features W of each class.
        scale: The scale s.
        normalised: Whether to scale features to length one.
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
        """The input of the head."""
        features = self.encoder(self.look(images)).float()
        return F.normalize(features, dim=1) if self.normalised else features

    def forward(self, images: Images) -> Logits:
        """The logits of images."""
        return self.scale * self.head(self.embed(images)) + self.offset


@torch.no_grad()
def match_(labeller: Labeller, answers: Logits, wanted: Logits) -> None:
    """Set the labeller's scale and offset so that its logits have the standard deviation and mean of the wanted ones.

    The squared error depends on both. CLIP's logits are all positive and in a narrow range; a fit that starts there
    ends worse than hard labels.

    Args:
        labeller: The labeller, which is changed.
        answers: Its logits.
        wanted: The wanted logits of the same images.
    """
    share = wanted.std() / answers.std().clamp_min(1e-6)
    labeller.offset.copy_(wanted.mean() - share * (answers.mean() - labeller.offset))
    labeller.scale.mul_(share)


@dataclass(frozen=True)
class Base:
    """The encoder, the class features and the data set of a projector."""

    encoder: str
    """Name of the encoder: a folder, a name on the hub, or `tiny`."""
    weights: str
    """Digest of the encoder's weights."""
    head: HeadKind
    caption: str
    words: str
    """Digest of the captions' tokens, if the head is computed from them."""
    classes: tuple[str, ...]
    shape: Shape
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def transform(self) -> Transform:
        """The transform of the data set's pixels to network input."""
        return Transform(self.mean, self.std)


@dataclass
class Projector:
    """Low-rank factors, scale and offset, with their base. It labels the set that it is saved with."""

    base: Base
    tensors: dict[str, Tensor]
    """Tensors in stored form: factors, `scale`, `offset`, and `head` if it is stored."""
    encoder: Encoder | None = field(default=None, compare=False)
    """Encoder, if it is loaded; otherwise it is loaded when it is first needed."""
    folder: Path | None = field(default=None, compare=False)
    """Folder from which it was read."""

    @classmethod
    def of(cls, encoder: Encoder, base: Base, factors: Factors, head: Head, storage: Storage) -> "Projector":
        """Make a projector of learned factors.

        Args:
            encoder: The encoder, without deltas.
            base: The base of the projector.
            factors: Low-rank factors, `scale` and `offset`.
            head: Class features, without their delta.
            storage: The format of the low-rank factors. Scale and offset are stored as float32, the head as float16.
        """
        plain = {name: factors[name].detach().cpu().float().clone() for name in ("scale", "offset")}
        kept = {} if base.head == "text" else {"head": head.detach().cpu().half()}
        learned = {name: value for name, value in factors.items() if name not in plain}
        return cls(base, {**packed(learned, storage), **plain, **kept}, encoder)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes."""
        return self.base.classes

    @property
    def carries(self) -> bool:
        """Whether its encoder is saved with it, because it is not available elsewhere."""
        return self.base.encoder == TINY

    @property
    def opened(self) -> Encoder:
        """The loaded encoder.

        Raises:
            InputError: The encoder is not available, or it is another one.
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
        """The network from the set's network input to logits, with the deltas folded in."""
        encoder, base = self.opened, self.base
        head = self.tensors["head"].float() if "head" in self.tensors else encoder.text_head(base.caption, base.classes)
        labeller = Labeller(encoder.look, copy.deepcopy(encoder.tower), head, scale=float(self.tensors["scale"]))
        fold_(labeller, unpacked({n: v for n, v in self.tensors.items() if n not in ("scale", "offset", "head")}))
        labeller.offset.copy_(self.tensors["offset"])
        return labeller

    @property
    def bytes(self) -> int:
        """The size of its tensors in bytes, without the encoder."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def parts(self) -> list[dict[str, Tensor]]:
        """The tensors that are saved with a set, by file: its own, and those of an encoder not available elsewhere."""
        clip = self.opened.clip if self.carries else None
        return [self.tensors, clip.model.state_dict()] if clip else [self.tensors]

    def note(self, images: int) -> str:
        """The text about it on a card.

        Args:
            images: The number of images that it labels.
        """
        stored = label_bytes(EPOCHS, images, len(self.classes))
        carried = "is included and counted" if self.carries else "is not counted"
        return (
            f"The projector in `teacher/` labels augmented images. It takes {self.bytes:,} bytes; soft labels for "
            f"{EPOCHS} epochs would take {stored:,}. Its encoder, {self.base.encoder}, {carried}."
        )

    def save(self, folder: Path) -> str:
        """Write it to a folder, with an encoder not available elsewhere, and return its digest."""
        if self.carries and self.opened.clip:
            self.opened.clip.save(folder)
        return store.write_tensors(folder / FILE, self.tensors, asdict(self.base))

    @classmethod
    def load(cls, folder: Path, *, digest: str | None = None) -> "Projector":
        """Read what `save` wrote, and check its digest. The encoder is loaded later.

        Raises:
            InputError: The file is missing or damaged, or has another digest.
        """
        path = folder / FILE
        tensors, plain = store.read_tensors(path)
        if digest is not None and store.digest_of(tensors, plain) != digest:
            raise InputError(f"{path} is not the file that artefact.json describes.")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
        return cls(Base(**values), tensors, folder=folder)


Teacher = TrainedNetwork | CarriedTeacher | Projector
"""A network that can label a set."""
FILES = ("network.safetensors", carried.FILE, FILE, captions.FILE)
"""Names of the files of teachers."""


def load_teacher(folder: Path, *, digest: str, classes: Sequence[str]) -> Teacher:
    """Read the teacher of a set.

    Raises:
        InputError: It is missing or damaged, has another digest, or has other classes.
    """
    kind: Any = CarriedTeacher if (folder / carried.FILE).exists() else TrainedNetwork
    kind = Projector if (folder / FILE).exists() else kind
    teacher: Teacher = kind.load(folder, digest=digest)
    if teacher.classes != tuple(classes):
        raise InputError(f"the teacher in {folder} has {len(teacher.classes)} classes, which are not those of the set.")
    return teacher


def label_bytes(epochs: int, images: int, classes: int) -> int:
    """The size of soft labels of every image and epoch as float16, in bytes: 2 · E · N · C."""
    return 2 * epochs * images * classes
