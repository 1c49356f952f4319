"""A condensed image set on disk and in memory.

`images.safetensors` holds the pixels, learned (float32 network input) or of real images (uint8), and the labels, hard
or soft. `artefact.json` states the origin. `whitening.safetensors` holds the ZCA matrices, if there are any. `teacher/`
holds the network or the projector that labels, if there is one. `attar label` adds `labels/`. `README.md`,
`preview.png` and the 8-bit parquet export are for viewing the set and for `datasets`.
"""

import builtins
import dataclasses
import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core import artefact as core
from attar.core import store
from attar.core.card import EXPORT, SCORES
from attar.core.cell import Cell
from attar.core.divergence import LARGEST
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.sending import sent
from attar.images.card import card
from attar.images.data.whiten import Transform, whitening_of
from attar.images.labels.projector import FILES as TEACHER_FILES
from attar.images.labels.projector import Teacher, load_teacher
from attar.images.labels.stored import FILES as LABEL_FILES
from attar.images.labels.stored import LABELS, SoftLabels, stored_labels
from attar.images.preview import preview
from attar.images.shown import shown
from attar.images.sources import ImageSource

SCHEMA = 1
KIND = "images"
TEACHER = "teacher"
FILES = [
    "images.safetensors",
    "whitening.safetensors",
    *(f"{TEACHER}/{name}" for name in TEACHER_FILES),
    "artefact.json",
    "README.md",
    "preview.png",
    EXPORT,
]


@dataclass(frozen=True)
class Origin(core.Origin):
    """The origin of a condensed set."""

    full_images: int
    full_bytes: int
    split: str
    statistics: str

    @classmethod
    def of(cls, source: ImageSource, method: Any, runtime: Runtime) -> Self:
        """The origin of a set that `method` makes from `source`."""
        return cls.made(
            source,
            method,
            runtime,
            full_images=len(source.train),
            full_bytes=source.bytes,
            split=source.split,
            statistics=source.statistics,
        )


@dataclass(frozen=True)
class CondensedImages(core.CondensedSet):
    """A condensed set: a few images per class that replace many."""

    images: Tensor
    """Images `[image, channel, height, width]`: learned float32 network input, or uint8 pixels of real images."""
    labels: Int[Tensor, " image"] | Float[Tensor, "image classes"]
    """Class numbers, or soft labels."""
    classes: tuple[str, ...]
    transform: Transform
    """Transform of real pixels to network input, and back."""
    flips: bool
    """Whether a mirrored image keeps its label."""
    origin: Origin
    lr: float | None = None
    """Learning rate to train with, if the method learned one."""
    teacher: Teacher | None = None
    """Network or projector whose outputs on augmented images a student learns, if the set has one."""
    soft: SoftLabels | None = None
    """Stored labels for many views of every image, which a student learns, if the folder holds them."""
    folder: Path | None = field(default=None, compare=False)
    """Folder in which the set was last saved."""

    kind = KIND
    files = (*FILES, *LABEL_FILES, SCORES)
    largest = LARGEST

    @property
    def learned(self) -> dict[str, Tensor]:
        """The learned tensors: pixels, soft labels and learning rate. 8-bit pixels and class numbers are finite."""
        lr = {} if self.lr is None else {"the learned step size": torch.tensor(self.lr)}
        return {"pixels": self.images, "labels": self.labels, **lr}

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image: channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def targets(self) -> Int[Tensor, " image"] | Float[Tensor, "image classes"]:
        """The labels that a network is trained on."""
        return self.labels

    @cached_property
    def fingerprint(self) -> str:
        """A digest of images and labels."""
        return store.digest_of({"images": self.images, "labels": self.labels}, list(self.classes))

    @property
    def bytes(self) -> int:
        """Size in bytes of the files that training may need: images and labels with header, teacher, stored labels."""
        from safetensors.torch import save

        stored = self.soft.bytes if self.soft else 0
        if self.folder is not None:
            files = ["images.safetensors", *(f"{TEACHER}/{name}" for name in TEACHER_FILES)]
            places = [self.folder / name for name in files]
            return stored + sum(place.stat().st_size for place in places if place.exists())
        tensors = {"images": self.images, "labels": self.labels}
        parts = [tensors, *(self.teacher.parts if self.teacher else [])]
        sizes = (len(save({name: tensor.contiguous() for name, tensor in part.items()})) for part in parts)
        return stored + sum(sizes)

    @property
    def hard_labels(self) -> Int[Tensor, " image"]:
        """The class of each image; the most probable class if labels are soft."""
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(dim=1)

    @property
    def tiles(self) -> int:
        """The number of pictures per side of which an image is composed; 1 if it is a single picture."""
        return int(self.origin.settings.get("factor") or 1)

    @cached_property
    def network_input(self) -> Float[Tensor, "image channel height width"]:
        """All images as network input."""
        return self.transform.forward(self.images) if self.images.dtype == torch.uint8 else self.images

    def inputs(self, rows: Int[Tensor, " batch"], device: torch.device | str = "cpu") -> Tensor:
        """The images of these rows as network input."""
        device = torch.device(device)
        if device.type == "cpu":
            return self.network_input[rows]
        if str(device) not in self._copies:
            self._copies[str(device)] = sent(self.network_input, device)
        return self._copies[str(device)][sent(rows, device)]

    def home(self, device: torch.device) -> torch.device:
        """Where the images for a device are kept: in its memory."""
        return device

    @cached_property
    def _copies(self) -> dict[str, Tensor]:
        return {}

    @cached_property
    def pixels(self) -> np.ndarray:
        """All images as 8-bit pixels for viewing, `[image, height, width, channel]`. Learned values are clipped."""
        if self.images.dtype == torch.uint8:
            return self.images.permute(0, 2, 3, 1).numpy()
        pictures = self.transform.inverse(self.images).clamp(0, 1).mul(255).round().byte()
        return pictures.permute(0, 2, 3, 1).numpy()

    @property
    def summary(self) -> str:
        """The number of images, their size in bytes, and the share of the full set's size."""
        share = 100 * self.bytes / self.origin.full_bytes if self.origin.full_bytes else 0.0
        return f"{len(self.labels)} images, {self.bytes:,} bytes ({share:.2g} % of the full set)"

    def __str__(self) -> str:
        return self.summary

    def save(self, folder: str | Path) -> Self:
        """Write the set to a folder and return the saved copy. Each file is written whole or not at all."""
        folder = Path(folder)
        store.make_folder(folder / "data")
        tensors = {"images": self.images, "labels": self.labels}
        digest = store.write_tensors(folder / "images.safetensors", tensors, {"schema": SCHEMA})
        whitening = None
        if self.transform.whitening is not None:
            matrices = vars(self.transform.whitening)
            whitening = store.write_tensors(folder / "whitening.safetensors", matrices, {"schema": SCHEMA})
        teacher = None
        if self.teacher is not None:
            store.make_folder(folder / TEACHER)
            teacher = self.teacher.save(folder / TEACHER)
        store.write_bytes(folder / EXPORT, self._parquet())
        store.write_bytes(folder / "preview.png", self.picture())
        facts = {
            "digest": digest,
            "classes": list(self.classes),
            "mean": list(self.transform.mean),
            "std": list(self.transform.std),
            "whitening": whitening,
            "flips": self.flips,
            "lr": self.lr,
            "teacher": teacher,
            "origin": dataclasses.asdict(self.origin),
        }
        core.write_facts(folder, KIND, SCHEMA, facts)
        if self.soft is not None and self.soft.folder != folder / LABELS:
            self.soft.save(folder / LABELS)
        saved = dataclasses.replace(self, folder=folder)
        if self.soft is not None:
            saved = dataclasses.replace(saved, soft=stored_labels(saved))
        saved.write_card(folder)
        return saved

    def card(self, scores: list[Cell]) -> str:
        """The README of the set."""
        return card(self, scores)

    def export(self, folder: str | Path) -> Path:
        """Write 8-bit pictures, one folder per class, for tools that read files. `attar.load` can read them.

        Raises:
            InputError: The folder is not empty.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty. Choose another folder.")
        for number, (image, label) in enumerate(zip(self.pixels, self.hard_labels.tolist(), strict=True)):
            place = folder / "train" / self.classes[label].replace("/", "-")
            place.mkdir(parents=True, exist_ok=True)
            store.write_bytes(place / f"{number:05d}.png", _png(image))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The folder does not hold an artefact, or a file is truncated, altered, a pickle, or of a newer
                schema.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "condensed set")
        tensors, _ = core.read_tensors(folder / "images.safetensors", facts["digest"])
        whitening = None
        if facts["whitening"]:
            matrices, _ = core.read_tensors(folder / "whitening.safetensors", facts["whitening"])
            whitening = whitening_of(matrices)
        teacher = None
        if facts.get("teacher"):
            teacher = load_teacher(folder / TEACHER, digest=str(facts["teacher"]), classes=facts["classes"])
        small = cls(
            images=tensors["images"],
            labels=tensors["labels"],
            classes=tuple(facts["classes"]),
            transform=Transform(tuple(facts["mean"]), tuple(facts["std"]), whitening),
            flips=facts["flips"],
            origin=Origin(**facts["origin"]),
            lr=facts["lr"],
            teacher=teacher,
            folder=folder,
        )
        return dataclasses.replace(small, soft=stored_labels(small))

    def picture(self) -> builtins.bytes:
        """The preview as PNG."""
        return preview(self.pixels, self.hard_labels.numpy(), self.classes)

    def shown(self, images: int = 10) -> core.Shown:
        """A strip of pictures for every class, and snapshots of earlier steps."""
        return shown(self, images)

    def _parquet(self) -> builtins.bytes:
        """A parquet table of PNG images and labels, with types for `datasets`."""
        import pyarrow

        features: dict[str, Any] = {
            "image": {"_type": "Image"},
            "label": {"names": list(self.classes), "_type": "ClassLabel"},
        }
        cells = [{"bytes": _png(image), "path": None} for image in self.pixels]
        kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
        columns = {"image": pyarrow.array(cells, kind), "label": pyarrow.array(self.hard_labels.numpy())}
        if self.labels.ndim == 2:
            columns["soft_label"] = pyarrow.array(self.labels.tolist(), pyarrow.list_(pyarrow.float32()))
            features["soft_label"] = {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "List"}
        return core.parquet(columns, features)


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(sink, "PNG")
    return sink.getvalue()
