"""Soft labels stored for many views of every image, so that training needs no teacher: SRe2L's relabelling.

The view of an image is not stored. It is drawn again from seed and epoch. A label belongs to an epoch and an image and
not to a batch, so students can use any batch size, order and number of epochs.
The storage follows FKD (Shen and Xing, A Fast Knowledge Distillation Framework, ECCV 2022, arXiv:2112.01528) as used by
SRe2L (Yin, Xing and Shen, NeurIPS 2023, arXiv:2306.13092), but stores less.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core import store
from attar.core.artefact import unsealed
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import permutation
from attar.core.settings import Hidden, Range, Settings
from attar.core.state import rebuilt
from attar.images import layout
from attar.images.labels.formats import MOST_CLASSES, Format, Parts, Tail, bytes_per_row, decode, encode
from attar.images.networks.architecture import norms_of
from attar.images.networks.pretrained import PREFIX, Say, facts_of
from attar.images.trained import classifier_in, holds_artefact
from attar.images.training import TrainedNetwork
from attar.images.views.epochs import Mix, Views, draw_views, own_share

SCHEMA = 1
LABELS = "labels"
"""Name of the folder of a set's labels."""
FACTS = "labels.json"
FILES = [f"{LABELS}/{FACTS}", f"{LABELS}/epoch-*.safetensors"]
"""Files of stored labels, as patterns."""

Labelled = Any
"""A `CondensedImages`. It is not imported here, because its file imports this one."""


def shard_name(epoch: int) -> str:
    """The name of the file of an epoch."""
    return f"epoch-{epoch:05d}.safetensors"


@dataclass
class Labelling:
    """The state of labelling: the digests of the epochs' files, which are on disk, and the number of epochs done."""

    digests: dict[str, str]
    done: int = 0
    small: Labelled = rebuilt(default=None)
    answer: Callable[[Tensor], Tensor] = rebuilt(default=None)
    """Function that returns the teacher's logits of a batch."""


@dataclass(frozen=True, kw_only=True)
class StoreLabels(Settings):
    """Store a teacher's logits for every image of a set, for one random view per epoch."""

    epochs: Annotated[int, Range(1)] = 300
    """Number of epochs of labels. Students that train for longer begin again with the first epoch."""
    format: Format = "int8"
    """Format of stored logits. int8 is as good as float32, int4 nearly so. top-k keeps k logits, hard the class."""
    top: Annotated[int, Range(1)] = 10
    """Number k of logits that top-k keeps."""
    tail: Tail = "renorm"
    """Probability of classes outside the top k: none (renorm), an equal share of the remaining probability (uniform),
    or the smallest one inside (min)."""
    mix: Mix = "cutmix"
    """Mixing of images before the teacher sees them."""
    smallest_crop: Annotated[float, Range(0.001, 1)] = 0.08
    """Smallest area of a crop, as a share of the image's area."""
    teacher_bn: Literal["running", "batch"] = "running"
    """Statistics that the teacher's batch norm uses: its running ones, or those of the batch (as in SRe2L's CIFAR
    script and, intentionally, in CV-DD)."""
    together: Annotated[int, Range(2)] = 128
    """Batch size of the teacher if its batch norm uses batch statistics. Batches are in random order."""
    teacher: str | None = None
    """Teacher: the folder of a trained network, student or classifier, or transformers:NAME_OR_FOLDER. Default: the
    set's own teacher."""
    teacher_digest: Annotated[str, Hidden()] = ""
    """Digest of the teacher's weights. It is computed, not given."""

    name = "labels"
    kind = "images"
    verb = "label"

    def resolve(self, source: Labelled, runtime: Runtime) -> Self:
        """Fill in the digest of the teacher.

        Raises:
            InputError: The set is not saved, there is no teacher, the teacher has other classes, or `top` exceeds the
                number of classes.
        """
        if source.folder is None:
            raise InputError("labels are stored in the folder of the set, which is not saved; save it first.")
        if len(source.classes) > MOST_CLASSES:
            raise InputError(f"the set has {len(source.classes):,} classes; labels hold at most {MOST_CLASSES:,}.")
        if self.format == "top-k" and self.top > len(source.classes):
            raise InputError(f"top is {self.top}; it must be at most {len(source.classes)}, the number of classes.")
        network = self._network(source, runtime.say)
        if self.teacher_bn == "batch" and not norms_of(network):
            raise InputError("teacher_bn is batch, but the teacher has no batch norm; do not set it.")
        return replace(self, teacher_digest=_digest(network, source.classes))

    @property
    def total_steps(self) -> int:
        """The number of steps: one per epoch."""
        return self.epochs

    def work(self, source: Labelled) -> float:
        """Zero, because compiling does not pay."""
        return 0.0

    def views(self, epoch: int, seed: int, source: Any) -> Views:
        """The views of a set's images in an epoch."""
        return draw_views(
            seed,
            epoch,
            len(source.targets),
            source.shape[1:],
            mix=self.mix,
            smallest=self.smallest_crop,
            flips=source.flips,
        )

    def build(self, source: Labelled, runtime: Runtime) -> Labelling:
        """The state before the first step: the teacher, and no labels."""
        network = layout.place(copy.deepcopy(self._network(source)), runtime).eval().requires_grad_(False)
        if self.teacher_bn == "batch":
            for layer in norms_of(network):
                layer.running_mean, layer.running_var, layer.track_running_stats = None, None, False
        digests = {str(epoch): "" for epoch in range(self.epochs)}

        def answer(images: Tensor) -> Tensor:
            return network(layout.ordered(images, runtime)).float()

        return Labelling(digests, small=source, answer=answer)

    def _network(self, source: Labelled, say: Say | None = None) -> nn.Module:
        if self.teacher is not None and (self.teacher.startswith(PREFIX) or holds_artefact(self.teacher)):
            return classifier_in(self.teacher, source, say)
        teacher = source.teacher if self.teacher is None else TrainedNetwork.load(Path(self.teacher))
        if teacher is None:
            raise InputError("the set has no teacher. Give --teacher, or --data to train a teacher on.")
        network: nn.Module = teacher.of(source, "the teacher", say).network
        return network

    @torch.inference_mode()
    def step(self, state: Labelling, runtime: Runtime) -> Metrics:
        """Compute the teacher's logits for every image in the view of the next epoch, and write them to a file."""
        small, epoch = state.small, state.done
        folder = small.folder / LABELS
        if epoch == 0 and runtime.processes.first:
            _clear(folder)
        views = self.views(epoch, runtime.seed, small)
        order, parts = self._portions(epoch, small, runtime)
        answers = [state.answer(views.shown(small.inputs, rows, runtime.device)).cpu() for rows in parts]
        logits = torch.cat(answers)[order.argsort()]
        encoded, plain = encode(logits, self.format, top=self.top), {"epoch": epoch, "format": self.format}
        place = folder / shard_name(epoch)
        state.digests[str(epoch)] = runtime.processes.once(lambda: store.write_tensors(place, encoded, plain))
        state.done += 1
        agreed = logits.argmax(dim=1) == small.hard_labels
        return {"agreement": agreed.float().mean(), "sureness": logits.softmax(dim=1).amax(dim=1).mean()}

    def _portions(self, epoch: int, small: Labelled, runtime: Runtime) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The order in which the teacher sees the images, and its batches."""
        count = len(small.targets)
        if self.teacher_bn == "running":
            order = torch.arange(count)
            return order, order.split(layout.at_once(small.shape, runtime))
        order = permutation(runtime.seed, f"together {epoch}", count)
        parts = order.split(self.together)
        if len(parts) > 1 and len(parts[-1]) == 1:  # a single image has no batch statistics
            parts = (*parts[:-2], torch.cat(parts[-2:]))
        return order, parts

    def result(self, state: Labelling, runtime: Runtime) -> "SoftLabels":
        """The labels so far."""
        small, done = state.small, [state.digests[str(epoch)] for epoch in range(state.done)]
        return SoftLabels(
            method=self,
            seed=runtime.seed,
            images=len(small.targets),
            classes=len(small.classes),
            fingerprint=small.fingerprint,
            digests=tuple(done),
            folder=small.folder / LABELS,
        )

    def load(self, folder: Path) -> "SoftLabels":
        """Read finished labels."""
        return SoftLabels.load(folder)


@dataclass
class StoredEpoch:
    """The labels of one epoch, and their views."""

    labels: "SoftLabels"
    number: int
    views: Views
    parts: Parts

    def answers(self, rows: Int[Tensor, " batch"]) -> Float[Tensor, "batch classes"]:
        """The teacher's logits for these rows."""
        how = self.labels.method
        return decode(
            {name: part[rows] for name, part in self.parts.items()}, how.format, self.labels.classes, tail=how.tail
        )

    def mixed(
        self, targets: Tensor, rows: Int[Tensor, " batch"], size: tuple[int, int]
    ) -> Float[Tensor, "batch classes"]:
        """The set's own labels for these rows, mixed in the same way as the images."""
        if targets.ndim == 1:
            targets = F.one_hot(targets, self.labels.classes).float()
        if self.views.partner is None:
            return targets[rows]
        share = own_share(self.views, size)[rows].unsqueeze(1)
        return share * targets[rows] + (1 - share) * targets[self.views.partner[rows]]


@dataclass(frozen=True)
class SoftLabels:
    """Labels on disk of every image of a set in many epochs. An epoch is read when it is needed."""

    method: StoreLabels
    seed: int
    images: int
    classes: int
    fingerprint: str
    """Fingerprint of the set that they belong to."""
    digests: tuple[str, ...]
    """Digest of the file of each epoch."""
    folder: Path = field(compare=False)

    @property
    def epochs(self) -> int:
        """The number of stored epochs."""
        return len(self.digests)

    @property
    def bytes_per_label(self) -> int:
        """The size of the label of one image in one epoch, in bytes."""
        return bytes_per_row(self.method.format, self.classes, self.method.top)

    @cached_property
    def bytes(self) -> int:
        """The size of all files that training needs, in bytes."""
        names = [FACTS, *(shard_name(epoch) for epoch in range(self.epochs))]
        return sum((self.folder / name).stat().st_size for name in names)

    def epoch(self, number: int, source: Any) -> StoredEpoch:
        """The labels and views of an epoch. After the last stored epoch the first follows again.

        Args:
            number: The number of the epoch, counted from zero.
            source: The set that the labels belong to.

        Raises:
            InputError: The file is missing or damaged, has another digest, or has logits that are not finite.
        """
        stored = number % self.epochs
        path = self.folder / shard_name(stored)
        parts, plain = store.read_tensors(path)
        if store.digest_of(parts, plain) != self.digests[stored]:
            raise InputError(f"{path} is not the file that {FACTS} describes.")
        if any(part.is_floating_point() and not part.isfinite().all() for part in parts.values()):
            raise InputError(f"{path} has logits that are not finite (NaN or infinite). Store new labels.")
        return StoredEpoch(self, stored, self.method.views(stored, self.seed, source), parts)

    def are_of(self, teacher: Any) -> bool:
        """Whether they were computed by this teacher."""
        return _digest(teacher.network, teacher.classes) == self.method.teacher_digest

    def note(self) -> str:
        """The text about them on a card."""
        return (
            f"`{LABELS}/` holds a teacher's logits for {self.epochs} views of every image ({self.method.format}, "
            f"{self.bytes_per_label:,} bytes per label). They are counted."
        )

    def picture(self) -> None:
        """None: labels have no picture."""

    def save(self, folder: Path) -> str:
        """Write them to a folder and return their digest. Files of epochs may already be there."""
        if folder != self.folder:
            store.make_folder(folder)
            store.copy_files(self.folder, folder, [shard_name(epoch) for epoch in range(self.epochs)])
        facts = {
            "schema": SCHEMA,
            "settings": self.method.to_json(),
            "seed": self.seed,
            "images": self.images,
            "classes": self.classes,
            "fingerprint": self.fingerprint,
            "teacher": self.method.teacher_digest,
            "bytes_per_label": self.bytes_per_label,
            "label_bytes": self.bytes_per_label * self.images * self.epochs,
            "digests": list(self.digests),
        }
        digest = store.digest_of({}, facts)
        store.write_json(folder / FACTS, {**facts, "facts_digest": digest})
        return digest

    @classmethod
    def load(cls, folder: Path, *, of: str | None = None) -> "SoftLabels":
        """Read what `save` wrote. The epochs are read later.

        Args:
            folder: The folder of the labels.
            of: The fingerprint of the set that they must belong to.

        Raises:
            InputError: They are damaged, altered, of another set or of a newer schema, or an epoch is missing.
        """
        path = folder / FACTS
        facts = unsealed(store.read_json(path), path, SCHEMA, "the description of stored labels")
        if of is not None and facts["fingerprint"] != of:
            raise InputError(f"the labels in {folder} belong to another set. Delete them, and store new ones.")
        for epoch in range(len(facts["digests"])):
            if not (folder / shard_name(epoch)).is_file():
                raise InputError(f"{folder / shard_name(epoch)} is missing.")
        return cls(
            method=StoreLabels.from_json(facts["settings"]),
            seed=facts["seed"],
            images=facts["images"],
            classes=facts["classes"],
            fingerprint=facts["fingerprint"],
            digests=tuple(facts["digests"]),
            folder=folder,
        )


def stored_labels(small: Labelled) -> SoftLabels | None:
    """The finished labels in the folder of a saved set, if there are any.

    Raises:
        InputError: They are damaged, or belong to another set.
    """
    folder = small.folder / LABELS
    return SoftLabels.load(folder, of=small.fingerprint) if (folder / FACTS).is_file() else None


def _digest(network: nn.Module, classes: Sequence[str]) -> str:
    return store.digest_of(network.state_dict(), [*classes, *([facts] if (facts := facts_of(network)) else [])])


def _clear(folder: Path) -> None:
    """Remove the files of an earlier run, whose settings are not known."""
    for shard in folder.glob("epoch-*.safetensors"):
        store.remove(shard)
