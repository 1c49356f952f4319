"""What a diffusion model is trained on: images between -1 and 1, points in the plane, or latents, with their labels."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from attar.core.checks import shown
from attar.core.errors import InputError
from attar.core.notebook import Told
from attar.images.sources import ImageSource

Samples = Float[Tensor, "batch ..."]
Labels = Int[Tensor, " _batch"]
Rows = Int[Tensor, " _row"]
MEASURED = 10_000
"""Number of evenly spaced samples whose standard deviation is measured."""
MOST_VALUES = 2**28
"""Values of them at most, a gigabyte in float32."""


@runtime_checkable
class Values(Protocol):
    """Samples by row number."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample."""

    def __len__(self) -> int:
        """The number of samples."""

    def __getitem__(self, rows: Rows) -> Tensor:
        """The samples of these rows, in this order."""

    def select(self, rows: Rows) -> "Values":
        """The samples of only these rows, in this order."""

    def content(self) -> Iterator[bytes]:
        """Yield the bytes that a fingerprint is computed from."""


@dataclass(frozen=True)
class Part:
    """The training or the test samples."""

    values: Values
    """By row number: 8-bit or unit pixels of images, and any numbers of other samples."""
    labels: Int[Tensor, " sample"] | None = None
    pictures: bool = True
    """Whether the values are pixels, to be scaled to [-1, 1]."""

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Rows) -> Samples:
        """The samples of these rows in float32, images between -1 and 1."""
        found = self.values[rows]
        if not self.pictures:
            return found.float()
        return found.float() / 127.5 - 1 if found.dtype == torch.uint8 else found.float() * 2 - 1

    def select(self, rows: Rows) -> "Part":
        """The samples of these rows."""
        labels = None if self.labels is None else self.labels[rows]
        return dataclasses.replace(self, values=self.values.select(rows), labels=labels)

    def all(self, most: int | None = None) -> Samples:
        """All samples, or so many of them, evenly spaced."""
        return self[evenly(len(self), most)]

    def counts(self, classes: int) -> list[int]:
        """The number of samples of each class."""
        return [] if self.labels is None else torch.bincount(self.labels, minlength=classes).tolist()


@dataclass(frozen=True)
class Points:
    """Samples that are no images, as a tensor by row number."""

    tensor: Float[Tensor, "row ..."]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample."""
        return tuple(self.tensor.shape[1:])

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, rows: Rows) -> Tensor:
        return self.tensor[rows]

    def select(self, rows: Rows) -> "Points":
        """A copy of these rows."""
        return Points(self.tensor[rows])

    def content(self) -> Iterator[bytes]:
        """Yield the bytes that a fingerprint is computed from."""
        yield self.tensor.contiguous().numpy().tobytes()


@dataclass(frozen=True)
class Law:
    """The distribution that points were drawn from, where it is known."""

    draw: Callable[[int, torch.Generator], tuple[Tensor, Tensor]] = field(repr=False)
    """So many points `[n, 2]` and their labels `[n]`."""
    modes: Float[Tensor, "mode 2"] | None = None
    """The means of its modes, if it is a mixture of equal Gaussians."""
    std: float = 0.0
    """The standard deviation of each mode."""


@dataclass(frozen=True)
class Source(Told):
    """Samples with or without labels, split for training and testing."""

    name: str
    train: Part
    test: Part
    classes: tuple[str, ...] = ()
    """Names of the classes; none of samples without labels."""
    law: Law | None = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    images: ImageSource | None = field(default=None, compare=False, repr=False)
    """The labelled images that the samples were made from, if they were."""

    @classmethod
    def of_images(cls, images: ImageSource) -> Self:
        """Labelled images."""
        train, test = (Part(split.pixels, split.labels) for split in (images.train, images.test))
        return cls(images.name, train, test, images.classes, notes=images.notes, images=images)

    @classmethod
    def of_tensors(
        cls,
        train: Float[Tensor, "row ..."],
        test: Float[Tensor, "other ..."],
        *,
        labels: tuple[Tensor, Tensor] | None = None,
        classes: tuple[str, ...] = (),
        name: str = "samples",
        law: Law | None = None,
    ) -> Self:
        """Samples in memory, such as latents or points; they are not scaled.

        Args:
            train: Training samples.
            test: Test samples.
            labels: Class numbers of both, if there are classes.
            classes: Names of the classes.
            name: A name.
            law: The distribution that they were drawn from.

        Raises:
            InputError: A value is not finite, or shapes, labels and classes do not fit one another.
        """
        parts = [_as_samples(part, who, name) for who, part in (("training", train), ("test", test))]
        if parts[0].shape[1:] != parts[1].shape[1:]:
            raise InputError(
                f"training samples of {name} are {list(parts[0].shape[1:])}, test {list(parts[1].shape[1:])}."
            )
        classes = tuple(map(str, classes))
        if (labels is None) != (not classes):
            raise InputError(f"{name} has labels or classes alone. Give both, or neither.")
        if labels is not None and len(labels) != 2:
            raise InputError(f"labels of {name} must be those of the training and those of the test samples.")
        given = (None, None) if labels is None else labels
        made = [
            Part(
                Points(values),
                None if mine is None else _as_labels(mine, len(values), len(classes), name),
                pictures=False,
            )
            for values, mine in zip(parts, given, strict=True)
        ]
        return cls(name, made[0], made[1], classes, law)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample: channels, height, width of an image; 2 of a point."""
        return tuple(self.train.values.shape)

    @property
    def pictures(self) -> bool:
        """Whether the samples are images."""
        return self.train.pictures

    @property
    def things(self) -> str:
        """What the samples are called."""
        return "images" if self.pictures else "points" if len(self.shape) == 1 else "samples"

    @property
    def dimensions(self) -> int:
        """Number of values of a sample."""
        return math.prod(self.shape)

    @cached_property
    def sigma_data(self) -> float:
        """The standard deviation of all values of training samples, images between -1 and 1.

        Raises:
            InputError: All samples are equal.
        """
        values = self.train.all(min(MEASURED, max(1, MOST_VALUES // self.dimensions)))
        spread = float(values.std())
        if not spread > 0 or values.min() == values.max():
            raise InputError(f"all training {self.things} of {self.name} are equal, so there is nothing to learn.")
        return spread

    @cached_property
    def class_shares(self) -> tuple[float, ...]:
        """The share of each class among the training samples."""
        return tuple(count / len(self.train) for count in self.train.counts(len(self.classes)))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of every value and label."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps([self.classes, self.shape, self.pictures]).encode())
        for part in (self.train, self.test):
            digest.update(b"" if part.labels is None else part.labels.numpy().tobytes())
            for piece in part.values.content():
                digest.update(piece)
        return digest.hexdigest()

    def subset(self, rows: Rows) -> "Source":
        """The same source with only these training samples."""
        images = None if self.images is None else self.images.subset(rows)
        return dataclasses.replace(self, train=self.train.select(rows), images=images)

    def __str__(self) -> str:
        shape = "×".join(map(str, self.shape))
        classes = f", {len(self.classes)} classes" if self.classes else ""
        line = f"{self.name}: {len(self.train):,} training and {len(self.test):,} test {self.things}{classes}, {shape}"
        return "\n".join([line, *(f"note: {note}" for note in self.notes)])


def pixels_of(images: Float[Tensor, "image c h w"]) -> UInt8[Tensor, "image c h w"]:
    """Images between -1 and 1 as 8-bit pixels; what is beyond is cut."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def evenly(count: int, most: int | None = None) -> Rows:
    """Row numbers: all, or so many of them at even distances."""
    if most is None or count <= most:
        return torch.arange(count)
    return torch.linspace(0, count - 1, most).round().long()


def _as_samples(given: Any, who: str, name: str) -> Samples:
    """Samples by row in float32, from a tensor or what can be one.

    Raises:
        InputError: They are none, there are none, or one is not finite.
    """
    try:
        values = torch.as_tensor(given).detach().cpu()
    except (RuntimeError, TypeError, ValueError):
        raise InputError(f"{who} samples of {name} are {shown(given)}; give a tensor.") from None
    if values.layout != torch.strided or values.is_complex() or values.ndim < 2 or not values[:1].numel():
        kind = f"{list(values.shape)} of {values.dtype}".replace("torch.", "")
        if values.ndim and not len(values):
            raise InputError(f"{name} has no {who} sample. Give one or more.")
        raise InputError(f"{who} samples of {name} are {kind}; give numbers of shape [samples, ...].")
    values = values.float()
    if not values.isfinite().all():
        raise InputError(f"a {who} sample of {name} is not finite in float32. Leave such samples out.")
    return values


def _as_labels(given: Any, count: int, classes: int, name: str) -> Labels:
    """Class numbers, from a tensor or what can be one.

    Raises:
        InputError: They are none, not as many as samples, or of no class.
    """
    try:
        labels = torch.as_tensor(given).detach().cpu()
    except (RuntimeError, TypeError, ValueError):
        raise InputError(f"labels of {name} are {shown(given)}; give whole numbers.") from None
    whole = not labels.is_floating_point() and not labels.is_complex() and labels.dtype != torch.bool
    if not whole or labels.shape != (count,) or not ((labels >= 0) & (labels < classes)).all():
        raise InputError(f"labels of {name} must be numbers below {classes}, whole and one for each sample.")
    return labels.long()
