"""What a calibrator is fitted to: the logits of a classifier on images that it was not trained on."""

import copy
import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attar.classifiers.artefact import DistilledClassifier, Origin
from attar.classifiers.calibration.artefact import CalibratedClassifier
from attar.classifiers.calibration.calibrated import calibrated, logits_of
from attar.classifiers.calibration.calibration import Calibration, Logits, are_probabilities
from attar.classifiers.calibration.opening import Found, Link, digest_of
from attar.classifiers.encoder import Encoder
from attar.classifiers.selection import reserved_rows
from attar.core import store
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.state import rebuilt
from attar.images import layout
from attar.images.data.pixels import Split
from attar.images.sources import ImageSource, held_out
from attar.images.splits import own_split

TENTH = 0.1
"""Share of the training images that calibrates a classifier of which nothing tells what it was trained on."""
Asked = Literal["auto", "reserved", "held-out", "train"]


@dataclass(frozen=True)
class Chosen:
    """Images that a calibrator is fitted to."""

    images: Split
    which: str
    """reserved, held-out, tenth, train, or other data."""
    source: str
    """The name of the data that they are from."""
    note: str = ""
    """What to know of them."""
    things: str = "images"
    """What they are."""

    @cached_property
    def digest(self) -> str:
        """What tells these images from others."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(self.images.labels.numpy().tobytes())
        for piece in self.images.pixels.content():
            digest.update(piece)
        return digest.hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain values for `artefact.json`."""
        facts = {"which": self.which, "count": len(self.images), "source": self.source, "digest": self.digest}
        return facts | ({"note": self.note} if self.note else {})

    def __str__(self) -> str:
        what = {
            "reserved": "that the classifier reserved",
            "held-out": "that the classifier held out to choose an epoch",
            "tenth": f"a tenth of the training {self.things}",
            "train": f"all training {self.things}",
            "other data": f"all training {self.things}",
        }[self.which]
        return f"{len(self.images):,} {self.things} of {self.source}, {what}"


def chosen(found: Found, source: ImageSource, asked: Asked, runtime: Runtime) -> Chosen:
    """The training images that a classifier is calibrated on.

    Args:
        found: The classifier.
        source: The data, in the split and the order of classes of the classifier.
        asked: Which images are wanted.
        runtime: The machine and the seed.

    Raises:
        InputError: The classifier has no such images, or was trained on all of them.
    """
    settings, seed = _trained_by(found)
    things, which = source.things, {"source": source.name, "things": source.things}
    if found.trained_elsewhere and asked == "auto":
        rows = held_out(source, runtime.seed, TENTH)
        note = (
            f"nothing tells on which {things} {found.who} was trained. If it was on those that calibrate it, "
            "it stays too confident."
        )
        return Chosen(source.train.select(rows), "tenth", note=note, **which)
    if asked == "train":
        seen = "may have been" if found.trained_elsewhere or not _is_of(found, source) else "was"
        note = f"{found.who} {seen} trained on the {things} that it is calibrated on, so it stays too confident."
        return Chosen(source.train, "train", note=note, **which)
    if settings and not _is_of(found, source):
        raise InputError(
            f"{found.who} was not trained on these {things} of {source.name}, so nothing tells which it has reserved. "
            "Give its own data, and these with --calibration-data."
        )
    reserved, keep = settings.get("reserved") or 0.0, settings.get("keep", "last")
    rest = torch.arange(len(source.train))
    if reserved:
        rows = reserved_rows(source, reserved, seed)
        if asked in ("auto", "reserved"):
            return Chosen(source.train.select(rows), "reserved", **which)
        rest = rest[~torch.isin(rest, rows)]
    if keep != "last" and asked in ("auto", "held-out"):
        rows = rest[held_out(source.subset(rest), seed, settings["held_out"])]
        note = f"the epoch of the classifier was chosen on the {things} that it is calibrated on."
        return Chosen(source.train.select(rows), "held-out", note=note, **which)
    what = f"was trained on all training {things}" if asked == "auto" else f"has no {asked} {things}"
    raise InputError(
        f"{found.who} {what}. Train it with --reserved 0.1, give other {things} with --calibration-data, or insist "
        "with --calibrate-on train."
    )


def _trained_by(found: Found) -> tuple[dict[str, Any], int]:
    """The settings and the seed of the classifier's training, if they are known."""
    if isinstance(found.made, DistilledClassifier):
        return found.made.origin.settings, found.made.origin.seed
    return {}, 0


def _is_of(found: Found, source: ImageSource) -> bool:
    made = found.made
    return not isinstance(made, DistilledClassifier) or source.is_of(made.origin.fingerprint, made.transform)


def of_other_data(other: ImageSource, source: ImageSource) -> Chosen:
    """All training images of another data set of the same classes.

    Raises:
        InputError: It has other classes or images of another shape, or it is the same data.
    """
    if sorted(other.classes) != sorted(source.classes) or other.shape != source.shape:
        raise InputError(
            f"{other.name} has {len(other.classes)} classes of {other.shape} {source.things}, but {source.name} has "
            f"{len(source.classes)} of {source.shape}. Give calibration data of the same classes and shape."
        )
    if other.classes != source.classes:
        other = other.ordered_as(source.classes)
    one = Chosen(other.train, "other data", other.name, things=source.things)
    if len(other.train) == len(source.train) and one.digest == Chosen(source.train, "train", "").digest:
        raise InputError(
            f"the calibration data are the training {source.things} of {source.name}. Leave --calibration-data out."
        )
    return one


@dataclass
class Calibrating:
    """A classifier, its data, and the images that calibrate it."""

    source: ImageSource
    base: nn.Module
    """The classifier, for the images and classes of the data."""
    link: Link
    group: tuple[int, ...] | None
    """The class of each logit, if the data's labels are subclasses."""
    rows: Chosen
    encoder: Encoder | None = None
    """What makes network input of data that are not images."""
    kept: dict[str, Any] = field(default_factory=dict)
    """Logits that were computed, by what they are of."""
    told: bool = False
    """Whether it was told that the classifier gives probabilities."""

    @classmethod
    def of(
        cls,
        found: Found,
        source: ImageSource,
        runtime: Runtime,
        *,
        asked: Asked = "auto",
        other: ImageSource | None = None,
    ) -> "Calibrating":
        """A classifier with the images that it is calibrated on.

        Args:
            found: The classifier.
            source: Its data.
            runtime: The machine and the seed.
            asked: Which of the training images are wanted.
            other: Other data of the same classes, whose training images are taken in place of those.

        Raises:
            InputError: Classifier and data do not fit, or there are no such images.
        """
        base = found.fitted_to(source, runtime.say)
        rows = chosen(found, source, asked, runtime) if other is None else of_other_data(other, source)
        if rows.note:
            runtime.say(f"note: {rows.note}")
        return cls(source, base, Link(found.how, found.place, digest_of(base)), found.group, rows, found.encoder)

    def check(self, method: Calibration) -> None:
        """Check that a calibrator can be fitted to these data.

        Raises:
            InputError: It looks at copies of images, and these are none.
        """
        if method.looks_at_views and self.source.things != "images":
            raise InputError(
                f"{method.name} looks at transformed copies of images, but {self.name} has {self.source.things}. "
                "Give another calibrator, such as ts."
            )

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the data, the classifier, and the images that calibrate it."""
        return store.digest_of({}, [self.source.fingerprint, self.link.digest, self.rows.digest])

    @property
    def data(self) -> ImageSource:
        """The data as they were given."""
        return self.source

    @property
    def name(self) -> str:
        """The name of the data."""
        return self.source.name

    def __str__(self) -> str:
        return f"{self.source}\ncalibrated on {self.rows}"

    def logits(self, images: Split, method: Calibration, runtime: Runtime) -> tuple[Logits, list[Logits]]:
        """The classifier's logits of images, and of their transformed copies, in double precision.

        Raises:
            InputError: They are not one for each class, or not finite.
        """
        key = f"{id(images)} {method if method.looks_at_views else ''}"
        if key not in self.kept:
            device, transform = runtime.device, self.source.transform
            network = layout.place(copy.deepcopy(self.base), runtime).eval()
            found, views = logits_of(
                network,
                lambda rows: transform.forward(images.pixels[rows].to(device)),
                len(images),
                transform,
                method,
            )
            if found.shape[1] != len(self.source.classes):
                raise InputError(
                    f"the classifier gives {found.shape[1]} logits, but {self.name} has {len(self.source.classes)} "
                    "classes. Give a classifier of these classes."
                )
            for seen in (found, *views):
                if not seen.isfinite().all():
                    row = int((~seen.isfinite().all(dim=1)).nonzero()[0])
                    thing = self.source.things.removesuffix("s")
                    raise InputError(
                        f"the classifier's logits for {thing} {row} are not finite, so it has no confidence."
                    )
            self.kept[key] = found, views
        one: tuple[Logits, list[Logits]] = self.kept[key]
        return one

    def learned_by(self, method: Calibration, runtime: Runtime) -> dict[str, Tensor]:
        """What a calibrator learns from the logits of the calibration images.

        Raises:
            InputError: The images are of one class, or logits are not finite.
        """
        labels = self.rows.images.labels
        if len(labels.unique()) < 2:
            raise InputError(
                f"the {len(labels)} {self.rows.things} for calibration are of one class. Give some of all classes."
            )
        logits, views = self.logits(self.rows.images, method, runtime)
        if are_probabilities(logits) and len(logits) > 1 and not self.told:
            runtime.say(
                "note: the classifier gives probabilities, where logits are wanted, so the calibration is not that of "
                "its logits. Give the network without its softmax."
            )
            self.told = True
        generator = runtime.with_seed(runtime.seed).generator("calibration")
        learned = method.fit(logits, labels, views, generator=generator)
        return {name: tensor.detach().cpu() for name, tensor in learned.items()}

    def fitted(self, method: Calibration, runtime: Runtime) -> "Fitted":
        """The calibrator, fitted."""
        return Fitted(self.learned_by(method, runtime), work=self)

    def network(self, method: Calibration, runtime: Runtime) -> nn.Module:
        """The classifier with a calibrator that is fitted now."""
        return calibrated(self.base, method, self.learned_by(method, runtime), self.source.transform)


@dataclass
class Fitted:
    """What a calibrator has learned."""

    learned: dict[str, Tensor]
    work: Calibrating = rebuilt(default=None)

    def classifier(self, method: Calibration, runtime: Runtime) -> CalibratedClassifier:
        """The calibrated classifier."""
        work = self.work
        return CalibratedClassifier(
            network=calibrated(work.base, method, self.learned, work.source.transform),
            link=work.link,
            method=method,
            calibrator=dict(self.learned),
            rows=work.rows.to_json(),
            classes=work.source.classes,
            shape=work.source.shape,
            transform=work.source.transform,
            group=work.group,
            origin=Origin.of(work, method, runtime, work.base, None),
            encoder=work.encoder,
        )


def in_its_split(found: Found, source: ImageSource, runtime: Runtime) -> ImageSource:
    """The data in the split and the order of classes that the classifier was made with, if that is known."""
    if not isinstance(found.made, DistilledClassifier):
        return source
    made = found.made
    if sorted(made.classes) != sorted(source.classes) or made.shape != source.shape:
        return source  # refused later, with what differs
    return own_split(made, source, runtime)
