"""A labelled image data set: split for training and testing, fingerprinted, and ready as network input."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from attar.core.errors import InputError, unknown
from attar.core.memory import may_stay_on
from attar.core.notebook import Told
from attar.core.provenance import asked
from attar.core.seeds import derived_seed
from attar.core.selection import draw_rows, rows_by_class, shuffled
from attar.core.sending import sent
from attar.images.data.ahead import Ahead
from attar.images.data.form import Background, Form
from attar.images.data.pixels import InMemory, Pixels, Split, joined, portions
from attar.images.data.readers import read
from attar.images.data.whiten import Transform, fit_zca

STATISTICS = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny-imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Channel mean and standard deviation of papers, by data set (DM, arXiv:2110.04181, and its code)."""

DIGIT_SETS = ("digits", "mnist", "svhn")
"""Names of sets whose images change their meaning when mirrored, so that no augmentation flips them."""

MEASURED = 10_000
"""Number of evenly spaced images on which the statistics of a set above the memory budget are measured."""


Rows = Int[Tensor, " _row"]


@dataclass(frozen=True)
class ImageSource(Told):
    """A labelled image data set, split for training and testing."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    transform: Transform
    statistics: str = "measured"
    """Channel statistics of the transform: a name of `STATISTICS`, or "measured" on the training images (with the
    number of images, if not all)."""
    split: str = "given"
    """Split into training and test images: "given", or "80/20 by seed N"."""
    flips: bool = True
    """Whether a mirrored image keeps its label."""
    prepared: Tensor | None = None
    """Training images as network input, if computing it for each batch would cost more (whitening)."""
    rows: tuple[Rows, Rows] | None = field(default=None, compare=False)
    """Rows of the training and test images of a set that came without a split; None if the split was given, or if the
    source is a part of another."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was left out or decided when the images were read, in a sentence each."""

    things: ClassVar[str] = "images"
    """What the samples are called; rows of a table can be seen as images."""

    def __getstate__(self) -> dict[str, Any]:
        """What travels to another process: all but copies in a GPU's memory."""
        return {name: value for name, value in vars(self).items() if name not in ("_copies", "_ahead")}

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image: channels, height, width."""
        return self.train.pixels.shape

    @property
    def bytes(self) -> int:
        """Size of the training set in bytes, stored as a condensed set of real images: 8-bit pixels, 8-byte labels."""
        return len(self.train) * (math.prod(self.shape) + 8)

    @property
    def targets(self) -> Int[Tensor, " image"]:
        """The training labels."""
        return self.train.labels

    @cached_property
    def rows_of(self) -> tuple[Int[Tensor, " row"], ...]:
        """The rows of the training set by class."""
        return rows_by_class(self.train.labels, range(len(self.classes)))

    @property
    def streamed(self) -> bool:
        """Whether the training images exceed the memory budget and are decoded each time they are drawn."""
        return not isinstance(self.train.pixels, InMemory)

    @property
    def untested(self) -> tuple[str, ...]:
        """The classes without a test image."""
        counts = torch.bincount(self.test.labels, minlength=len(self.classes)).tolist()
        return tuple(name for name, count in zip(self.classes, counts, strict=True) if not count)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of every pixel and label and of the normalisation.

        Above the memory budget it is made of the encoded pictures, so that none has to be decoded. It does not depend
        on the location of files.
        """
        return self._digest(self.transform, self.prepared is not None)

    def is_of(self, fingerprint: str, transform: Transform) -> bool:
        """Whether a fingerprint belongs to these images in this split, with this normalisation or that of a transform.

        Args:
            fingerprint: The fingerprint in an artefact's origin.
            transform: The artefact's transform.
        """
        if fingerprint == self.fingerprint:
            return True
        return fingerprint == self._digest(transform, transform.whitening is not None)

    def _digest(self, transform: Transform, whitened: bool) -> str:
        digest = hashlib.blake2b(digest_size=16)
        sizes = [*self.shape, len(self.train), len(self.test)]
        normalised = [transform.mean, transform.std, whitened]
        digest.update(json.dumps([self.classes, *normalised, sizes]).encode())
        for split in (self.train, self.test):
            digest.update(split.labels.numpy().tobytes())
            for piece in split.pixels.content():
                digest.update(piece)
        return digest.hexdigest()

    def inputs(self, rows: Int[Tensor, " batch"], device: torch.device | str = "cpu") -> Tensor:
        """The training images of these rows as network input, `[batch, channel, height, width]`.

        Args:
            rows: The rows, on the CPU; or on the device, if `home` says that the images are there.
            device: The device.
        """
        device = torch.device(device)
        there = self._beside(device)
        if there is not None:
            found = there[sent(rows, device)]
            return found if self.prepared is not None else self.transform.forward(found)
        if self.prepared is not None:
            return sent(self.prepared[rows], device)
        found = self._ahead.take(rows) if device.type == "cuda" else self.train.pixels[rows]
        return self.transform.forward(sent(found, device))

    def expect(self, rows: Int[Tensor, " batch"], device: torch.device) -> None:
        """Tell which rows a GPU is given next, so that they are decoded meanwhile if they do not lie there.

        Args:
            rows: The rows, none at the end of a pass.
            device: The device.
        """
        if device.type == "cuda" and len(rows) and self.prepared is None and self._beside(device) is None:
            self._ahead.expect(rows)

    @cached_property
    def _ahead(self) -> Ahead:
        return Ahead(self.train.pixels)

    def home(self, device: torch.device) -> torch.device:
        """Where the images for a device are kept: in its memory if they fit, else on the CPU."""
        return torch.device("cpu") if self._beside(device) is None else device

    def _beside(self, device: torch.device) -> Tensor | None:
        """The images in the memory of a device; None if they stay where they are."""
        if device.type == "cpu":
            return None
        if str(device) not in self._copies:
            tensor = self.prepared if self.prepared is not None else getattr(self.train.pixels, "tensor", None)
            fits = tensor is not None and may_stay_on(device, tensor.nbytes, self)
            self._copies[str(device)] = tensor.to(device) if tensor is not None and fits else None
        return self._copies[str(device)]

    @cached_property
    def _copies(self) -> dict[str, Tensor | None]:
        return {}

    def whitened(self, epsilon: float = 0.1, *, raw: bool = False) -> "ImageSource":
        """The same source with ZCA whitening fitted on its training images. The whitened images are kept.

        Args:
            epsilon: The number ε that is added to the eigenvalues of the covariance.
            raw: Whether to whiten pixels in [0, 1] (MTT and its descendants) instead of normalised pixels (DataDAM).

        Raises:
            InputError: The training images exceed the memory budget.
        """
        if self.streamed:
            gigabytes = 4 * len(self.train) * math.prod(self.shape) / 1e9
            raise InputError(
                f"whitening keeps all images of {self.name} in memory ({gigabytes:.1f} GB), but they exceed the "
                "budget. Raise --memory, or do not set --zca."
            )
        channels = self.shape[0]
        plain = Transform((0.0,) * channels, (1.0,) * channels) if raw else self.transform
        images = plain.forward(self.train.pixels[torch.arange(len(self.train))])
        transform = dataclasses.replace(plain, whitening=fit_zca(images, epsilon))
        assert transform.whitening is not None
        return dataclasses.replace(self, transform=transform, prepared=transform.whitening.forward(images))

    def without(self, rows: Int[Tensor, " row"]) -> "ImageSource":
        """The same source without these training rows."""
        keep = torch.ones(len(self.train), dtype=torch.bool)
        keep[rows] = False
        return self.subset(torch.nonzero(keep).flatten())

    def subset(self, rows: Int[Tensor, " row"]) -> "ImageSource":
        """The same source with only these training rows. The test set and the statistics do not change."""
        prepared = self.prepared[rows] if self.prepared is not None else None
        return dataclasses.replace(self, train=self.train.select(rows), prepared=prepared, rows=None)

    def with_classes(self, labels: Sequence[int]) -> "ImageSource":
        """The same source with only these classes, numbered in this order. The normalisation does not change.

        Raises:
            InputError: No class is given, a class does not exist, or a class is given twice.
        """
        _check_labels(labels, self)
        numbers = torch.full((len(self.classes),), -1)
        numbers[list(labels)] = torch.arange(len(labels))

        def part(split: Split) -> Split:
            chosen = split.select(torch.nonzero(numbers[split.labels] >= 0).flatten())
            return dataclasses.replace(chosen, labels=numbers[chosen.labels])

        rows = torch.nonzero(numbers[self.train.labels] >= 0).flatten()
        prepared = self.prepared[rows] if self.prepared is not None else None
        names = tuple(self.classes[label] for label in labels)
        return dataclasses.replace(
            self, classes=names, train=part(self.train), test=part(self.test), prepared=prepared, rows=None
        )

    def at(self, split_seed: int) -> "ImageSource":
        """The same images, split 80/20 by another seed. Measured statistics are those of the new training images.

        Raises:
            InputError: The images came with a split, or are a part of a source.
        """
        if self.rows is None:
            raise InputError(f"{self.name} was not split by a seed, so it cannot be split by another seed.")
        train, test, rows = _split(self._whole(), split_seed)
        transform, statistics = self.transform, self.statistics
        if statistics not in STATISTICS:
            transform, statistics = normalisation(self.name, train.pixels, "measured")
        return dataclasses.replace(
            self,
            train=train,
            test=test,
            transform=transform,
            statistics=statistics,
            split=f"80/20 by seed {split_seed}",
            prepared=None,
            rows=rows,
        )

    def _whole(self) -> Split:
        """The images of a set that came without a split, in their order."""
        assert self.rows is not None
        order = torch.cat(self.rows).argsort()
        return Split(joined(self.train.pixels, self.test.pixels, order), _cat(self.train, self.test)[order])

    def ordered_as(self, classes: Sequence[str], *, regrouped: bool = True) -> "ImageSource":
        """The same images with the same classes, numbered in another order.

        Args:
            classes: The names of all classes in the wanted order.
            regrouped: Whether images that lie class by class do so in the new order too, as in a folder of pictures.

        Raises:
            InputError: The names are not those of the classes.
        """
        if sorted(classes) != sorted(self.classes):
            raise InputError(f"{self.name} has other classes, so they cannot be numbered in another order.")
        numbers = torch.tensor([list(classes).index(name) for name in self.classes])

        def renumbered(split: Split) -> tuple[Split, Rows]:
            labels = numbers[split.labels]
            by_class = regrouped and bool((split.labels.diff() >= 0).all())
            order = labels.argsort(stable=True) if by_class else torch.arange(len(labels))
            return Split(split.pixels.select(order), labels[order]), order

        prepared, names = self.prepared, tuple(classes)
        if self.rows is None:
            train, order = renumbered(self.train)
            prepared = None if prepared is None else prepared[order]
            return dataclasses.replace(
                self, classes=names, train=train, test=renumbered(self.test)[0], prepared=prepared
            )
        whole, order = renumbered(self._whole())
        place = order.argsort()
        rows = place[self.rows[0]].sort().values, place[self.rows[1]].sort().values
        if prepared is not None:
            prepared = prepared[place[self.rows[0]].argsort()]
        train, test = whole.select(rows[0]), whole.select(rows[1])
        return dataclasses.replace(self, classes=names, train=train, test=test, prepared=prepared, rows=rows)

    def __str__(self) -> str:
        channels, height, width = self.shape
        line = (
            f"{self.name}: {len(self.train):,} training and {len(self.test):,} test images, "
            f"{len(self.classes)} classes, {channels}×{height}×{width}, "
            f"statistics {self.statistics}, split {self.split}"
        ) + self._without_tests()
        return "\n".join([line, *(f"note: {note}" for note in self.notes)])

    def _without_tests(self) -> str:
        missing = self.untested
        named = ", ".join(missing) if len(missing) <= 5 else f"{len(missing)} classes"
        return f"; no test images of {named}" if missing else ""


def load(
    data: Any,
    *,
    size: int | None = None,
    memory: float = 4.0,
    split_seed: int = 0,
    statistics: str | None = None,
    image: str | None = None,
    label: str | None = None,
    background: Background = "white",
    pixel_bits: int | None = None,
    skip_bad: bool = False,
    fewest: int = 2,
) -> ImageSource:
    """Load labelled images.

    Args:
        data: `"digits"` (scikit-learn's), a parquet file or a folder of them in Hugging Face form, a folder of
            pictures with one folder per class (below `train/` and `test/` or not), a folder that a data set was saved
            to, a data set of the Hugging Face hub (`"user/name"`, or `"user/name:configuration"`), a
            `datasets.Dataset` or `DatasetDict`, or arrays: `(images, labels)` or
            `((images, labels), (test_images, test_labels))`.
        size: Side, in pixels, to which the central square of every picture is scaled.
        memory: Memory budget for decoded pixels, in GB. A larger set stays on disk and is decoded batch by batch. (The
            encoded images of larger parquet files are copied to the cache folder.)
        split_seed: Seed of the stratified 80/20 split of a set that has no test images.
        statistics: A name of `STATISTICS`, or "measured". Default: those of papers if the set has a known name and
            number of channels, otherwise measured on the training images.
        image: The column of the images, in parquet files and data sets. Default: image, img or images.
        label: The column of the labels. Default: label, labels, fine_label, or the only one of target, class and y.
        background: The colour behind transparent pixels: white, black, or none, which drops the transparency.
        pixel_bits: The number of bits of values in pictures with more than 8 bits. Default: 16 for 16-bit pictures
            that use them, and floats run from 0 to 1.
        skip_bad: Whether pictures that cannot be read are left out; otherwise they are counted and refused.
        fewest: The smallest number of classes that will do.

    Raises:
        InputError: The data are unknown, an image cannot be read, splits are ambiguous, images differ in size, labels
            are missing or are neither integers nor names, or there are too few classes.
    """
    if isinstance(data, ImageSource):
        return data
    if statistics is not None and statistics not in (*STATISTICS, "measured"):
        raise unknown("statistics", statistics, [*STATISTICS, "measured"])
    form = Form(
        size=size,
        memory=memory,
        image=image,
        label=label,
        background=background,
        pixel_bits=pixel_bits,
        skip_bad=skip_bad,
    )
    found = read(data, form)
    name, train, test, classes = found.name, found.train, found.test, found.classes
    split, rows = "given", None
    if test is None:
        train, test, rows = _split(train, split_seed)
        split = f"80/20 by seed {split_seed}"
    _check_classes(name, train, classes, fewest)
    wanted = statistics
    transform, statistics = normalisation(name, train.pixels, statistics)
    flips = not any(name.startswith(digits) for digits in DIGIT_SETS)
    source = ImageSource(name, classes, train, test, transform, statistics, split, flips, rows=rows, notes=found.notes)
    given = "./digits" if isinstance(data, Path) and str(data) == "digits" and data.exists() else data
    return asked(source, given, statistics=wanted, split_seed=split_seed, **form.to_json())


def normalisation(name: str, pixels: Pixels, asked: str | None) -> tuple[Transform, str]:
    """The given statistics, those of papers for this name, or measured ones; with the name of the statistics.

    Raises:
        InputError: The given ones do not exist, or are of another number of channels.
    """
    if asked is not None and asked not in (*STATISTICS, "measured"):
        raise unknown("statistics", asked, [*STATISTICS, "measured"])
    whose = asked or (name if name in STATISTICS else "measured")
    if whose != "measured":
        mean, std = STATISTICS[whose]
        if len(mean) == pixels.shape[0]:
            return Transform(mean, std), whose
        if asked:
            raise InputError(f"statistics is {asked}, which does not fit images with {pixels.shape[0]} channels.")
    rows = torch.arange(len(pixels))
    if isinstance(pixels, InMemory) or len(rows) <= MEASURED:
        return _measured(pixels, rows), "measured"
    return _measured(pixels, rows[:MEASURED] * len(rows) // MEASURED), f"measured on {MEASURED:,} images"


def held_out(source: ImageSource, seed: int, share: float = 0.1) -> Int[Tensor, " row"]:
    """A stratified share of the training rows, to be held out for choices."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "held out"))
    counts = tuple(round(share * len(rows)) for rows in source.rows_of)
    return draw_rows(source.rows_of, counts, generator).sort().values


def _split(whole: Split, seed: int) -> tuple[Split, Split, tuple[Rows, Rows]]:
    """The stratified 80/20 split, with at least one test image of every class that has two images, and its rows."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "split"))
    testing = torch.zeros(len(whole), dtype=torch.bool)
    for rows in rows_by_class(whole.labels, whole.labels.unique().tolist()):
        testing[shuffled(rows, generator)[: max(len(rows) // 5, int(len(rows) > 1))]] = True
    train, test = torch.nonzero(~testing).flatten(), torch.nonzero(testing).flatten()
    return whole.select(train), whole.select(test), (train, test)


def _cat(train: Split, test: Split) -> Int[Tensor, " image"]:
    return torch.cat([train.labels, test.labels])


def _check_labels(labels: Sequence[int], source: ImageSource) -> None:
    """Raise an `InputError` if labels are not a choice of a source's classes."""
    if not labels:
        raise InputError(f"no class of {source.name} is given; give one or more.")
    for place, label in enumerate(labels):
        if not 0 <= label < len(source.classes):
            raise InputError(f"{source.name} has no class {label}; give numbers from 0 to {len(source.classes) - 1}.")
        if label in labels[:place]:
            raise InputError(f"class {label} ({source.classes[label]}) is given twice; give each class once.")


def _check_classes(name: str, train: Split, classes: tuple[str, ...], fewest: int) -> None:
    counts = torch.bincount(train.labels, minlength=len(classes))
    if int((counts > 0).sum()) < fewest:
        only = f", {classes[int(counts.argmax())]!r}" if classes else ""
        raise InputError(f"{name} has only one class{only}; condensing needs two or more.")
    if int(counts.min()) == 0:
        raise InputError(f"class {classes[int(counts.argmin())]!r} of {name} has no training images.")


def _measured(pixels: Pixels, rows: Int[Tensor, " row"]) -> Transform:
    """Channel mean and standard deviation of these pixels, in [0, 1], rounded to four digits as in papers."""
    count, total, square = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for part in portions(rows, pixels.shape):
        batch = pixels[part]
        values = batch.double() / (255 if batch.dtype == torch.uint8 else 1)
        count += values[:, 0].numel()
        total, square = total + values.sum(dim=(0, 2, 3)), square + values.square().sum(dim=(0, 2, 3))
    mean = total / count
    std = (square / count - mean.square()).clamp_min(0).sqrt().clamp_min(1e-4)
    return Transform(tuple(round(float(m), 4) for m in mean), tuple(round(float(s), 4) for s in std))
