"""Samples that an encoder learns from: images or rows of numbers, with one label, several labels, captions, or none."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.memory import may_stay_on
from attar.core.notebook import Told
from attar.core.seeds import permutation
from attar.core.selection import rows_by_class
from attar.core.sending import sent
from attar.core.stratify import apart
from attar.images.data.pixels import InMemory, Pixels
from attar.images.data.whiten import Transform
from attar.images.sources import ImageSource

Rows = Int[Tensor, " _row"]
Labels = Int[Tensor, " sample"] | Bool[Tensor, "sample classes"]
"""The class of each sample, or which of the classes each sample has."""
Inputs = Float[Tensor, "sample channel height width"] | Float[Tensor, "sample feature"]
"""What an encoder reads."""
HELD_OUT = 0.1
"""Share of the training samples on which anything is chosen."""


@dataclass(frozen=True)
class Features:
    """Rows of numbers, as `Pixels` are for images."""

    tensor: Float[Tensor, "sample feature"]

    @property
    def shape(self) -> tuple[int]:
        """The number of features."""
        return (self.tensor.shape[1],)

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, rows: Rows) -> Float[Tensor, "sample feature"]:
        return self.tensor[rows]

    def select(self, rows: Rows) -> "Features":
        """Only these rows, in this order."""
        return Features(self.tensor[rows])

    def content(self) -> Iterator[bytes]:
        """Yield what a fingerprint is computed from."""
        yield self.tensor.contiguous().numpy().tobytes()


@dataclass(frozen=True)
class Standard:
    """Rows of numbers to network input: each feature with mean zero and standard deviation one."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, rows: Float[Tensor, "sample feature"]) -> "Standard":
        """The statistics of training rows. A constant feature keeps its scale."""
        values = rows.double()
        std = values.std(dim=0, correction=0)
        std = torch.where(std > 1e-12 * (1 + values.abs().amax(dim=0)), std, torch.ones_like(std))
        return cls(tuple(values.mean(dim=0).tolist()), tuple(std.tolist()))

    def forward(self, rows: Float[Tensor, "sample feature"]) -> Float[Tensor, "sample feature"]:
        """Standardised rows."""
        mean, std = sent((torch.tensor(self.mean), torch.tensor(self.std)), rows.device)
        return (rows.float() - mean) / std


@dataclass(frozen=True)
class Part:
    """Samples, and what is known of each."""

    samples: Pixels | Features
    labels: Labels | None = None
    captions: tuple[str, ...] = ()
    """A text for each sample, of image-text pairs."""

    def __len__(self) -> int:
        return len(self.samples)

    def select(self, rows: Rows) -> "Part":
        """Only these samples, in this order."""
        captions = tuple(self.captions[row] for row in rows.tolist()) if self.captions else ()
        return Part(self.samples.select(rows), None if self.labels is None else self.labels[rows], captions)


@dataclass(frozen=True)
class Source(Told):
    """Samples for training and testing an encoder.

    The number of a training sample is its row. It does not change, so that a loss can remember something of each.
    """

    name: str
    classes: tuple[str, ...]
    """Names of the classes; empty if there are no labels."""
    train: Part
    test: Part
    transform: Transform | Standard
    split: str = "given"
    """Split into training and test samples: "given", "80/20 by seed N", or "novel classes" (by seed N)."""
    flips: bool = True
    """Whether a mirrored image keeps its label."""
    novel: tuple[str, ...] = ()
    """Names of the classes of the test samples, if they are others than those of the training samples (few-shot)."""
    again: Callable[[int], "Source"] | None = field(default=None, compare=False, repr=False)
    """A function that makes the source by another split seed; None if nothing depends on that, and of a subset."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was left out or decided when the samples were read, in a sentence each."""

    @classmethod
    def of_images(cls, source: ImageSource) -> "Source":
        """The same images with one label each."""
        train, test = (Part(split.pixels, split.labels) for split in (source.train, source.test))
        return cls(
            source.name,
            source.classes,
            train,
            test,
            transform=source.transform,
            split=source.split,
            flips=source.flips,
            again=None if source.rows is None else lambda seed: cls.of_images(source.at(seed)),
            notes=source.notes,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample: channels, height and width, or the number of features."""
        return tuple(self.train.samples.shape)

    @property
    def tabular(self) -> bool:
        """Whether the samples are rows of numbers."""
        return isinstance(self.train.samples, Features)

    @property
    def labelled(self) -> Literal["none", "one", "several"]:
        """How many labels a sample has."""
        labels = self.train.labels
        if labels is None:
            return "none"
        return "several" if labels.ndim == 2 else "one"

    @property
    def paired(self) -> bool:
        """Whether every image has a caption."""
        return bool(self.train.captions)

    @property
    def test_classes(self) -> tuple[str, ...]:
        """Names of the classes of the test samples."""
        return self.novel or self.classes

    @cached_property
    def rows_of(self) -> tuple[Rows, ...]:
        """The training rows of each class. A sample with several labels is in several of them.

        Raises:
            InputError: There are no labels.
        """
        labels = self.train.labels
        if labels is None:
            raise InputError(f"{self.name} has no labels.")
        if labels.ndim == 2:
            return tuple(column.nonzero().flatten() for column in labels.T)
        return rows_by_class(labels, range(len(self.classes)))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of every sample, label and caption, and of the normalisation; places of files do not matter."""
        digest = hashlib.blake2b(digest_size=16)
        sizes = [*self.shape, len(self.train), len(self.test)]
        facts = [self.classes, self.novel, self.transform.mean, self.transform.std, sizes]
        digest.update(json.dumps(facts).encode())
        for part in (self.train, self.test):
            if part.labels is not None:
                digest.update(part.labels.contiguous().numpy().tobytes())
            digest.update(json.dumps(part.captions).encode())
            for piece in part.samples.content():
                digest.update(piece)
        return digest.hexdigest()

    def part(self, name: Literal["train", "test"]) -> Part:
        """The training or the test samples."""
        return self.train if name == "train" else self.test

    def unit(self, rows: Rows, device: torch.device | str = "cpu", part: Literal["train", "test"] = "train") -> Inputs:
        """Samples before normalisation: pixels as floats in [0, 1], or the numbers of a table."""
        samples = self._resident(part, str(device))
        if isinstance(samples, (InMemory, Features)):
            rows = sent(rows, samples.tensor.device)
        found = sent(samples[rows], torch.device(device))
        return found.float() / 255 if found.dtype == torch.uint8 else found

    def inputs(
        self, rows: Rows, device: torch.device | str = "cpu", part: Literal["train", "test"] = "train"
    ) -> Inputs:
        """Samples as network input, without augmentation."""
        return self.transform.forward(self.unit(rows, device, part))

    def held_out(self, share: float = HELD_OUT, seed: int = 0) -> tuple[Rows, Rows]:
        """The training rows to learn from, and a share of them on which anything is chosen.

        The share is drawn evenly from each class, or, of samples with several labels or none, from all.

        Raises:
            InputError: The share takes all samples of a class, or none at all.
        """
        count = len(self.train)
        if not share:
            return torch.arange(count), torch.arange(0)
        mask = apart(self.train.labels, count, share, seed)
        learn, held = (~mask).nonzero().flatten(), mask.nonzero().flatten()
        if not len(held) or not len(learn):
            raise InputError(
                f"held_out of {share:g} takes {len(held)} of {count} training samples. Give another share."
            )
        return learn, held

    def subset(self, rows: Rows) -> "Source":
        """The same source with only these training samples, which are numbered anew."""
        return dataclasses.replace(self, train=self.train.select(rows), again=None)

    def at(self, split_seed: int) -> "Source":
        """The same samples, split and chosen by another seed.

        Raises:
            InputError: Nothing depends on the seed, or this is a part of a source.
        """
        if self.again is None:
            raise InputError(f"{self.name} was not split by a seed, so it cannot be split by another seed.")
        return self.again(split_seed)

    def is_of(self, fingerprint: str, transform: Any) -> bool:
        """Whether a fingerprint in an artefact's origin is that of these samples."""
        return fingerprint == self.fingerprint

    def _resident(self, part: Literal["train", "test"], device: str) -> Any:
        """The samples, in the memory of the device if they are in memory."""
        samples = self.part(part).samples
        if not isinstance(samples, (InMemory, Features)):
            return samples
        if not may_stay_on(torch.device(device), samples.tensor.nbytes, self, part):
            return samples
        if (part, device) not in self._copies:
            self._copies[part, device] = type(samples)(samples.tensor.to(device))
        return self._copies[part, device]

    @cached_property
    def _copies(self) -> dict[tuple[str, str], Any]:
        return {}

    def __str__(self) -> str:
        size = "×".join(map(str, self.shape)) + (" features" if self.tabular else "")
        labels = {"none": "no labels", "one": "one label each", "several": "several labels each"}[self.labelled]
        what = [f"{len(self.classes)} classes, {labels}" if self.classes else labels, size]
        if self.paired:
            what.append("with captions")
        if self.novel:
            what.append(f"tested on {len(self.novel)} other classes")
        line = f"{self.name}: {len(self.train):,} training and {len(self.test):,} test samples, {', '.join(what)}"
        return "\n".join([f"{line}, split {self.split}", *(f"note: {note}" for note in self.notes)])


def epoch_rows(rows: Rows, seed: int, epoch: int) -> Rows:
    """Rows in the order of an epoch, which depends on nothing but seed and epoch."""
    return rows[permutation(seed, f"order of epoch {epoch}", len(rows))]


def check_finite_rows(values: Float[Tensor, "sample feature"], name: str, columns: Sequence[str]) -> None:
    """Check that a table has no hole.

    Raises:
        InputError: A value is missing or infinite. Its row and column are named.
    """
    bad = (~values.isfinite()).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        more = f" ({len(bad):,} such values)" if len(bad) > 1 else ""
        raise InputError(f"row {row} of {name} has no finite number in column {columns[column]!r}{more}.")


def evenly(count: int, most: int) -> Rows:
    """At most so many rows, at equal distances."""
    return torch.arange(count) if count <= most else (torch.arange(most) * count) // most
