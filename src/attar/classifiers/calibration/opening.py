"""The classifier that a calibrator works on: found by its folder or name, and recognised when it is read again."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from attar.classifiers.artefact import Build, DistilledClassifier, Opened, StoredClassifier
from attar.classifiers.calibration.calibrated import Grouped
from attar.classifiers.encoder import Encoder
from attar.core import hub, store
from attar.core.errors import InputError
from attar.images.data.whiten import Transform
from attar.images.networks.pretrained import PREFIX, facts_of, labelling_classifier, named_by_classes
from attar.images.training import TrainedNetwork

Say = Callable[[str], None]
How = Literal["folder", "hub", "transformers", "module"]
WHAT = "a folder of a classifier, transformers:NAME, or user/name of one of attar's on the hub"


@dataclass(frozen=True)
class Form:
    """Images and classes that a classifier has to fit."""

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    transform: Transform


@dataclass(frozen=True)
class Found:
    """A classifier as it was found, before it is put in the order of the data's classes."""

    how: How
    place: str
    """An absolute path, or a name on the hub; empty for a module."""
    made: Any
    """What was read: a student or a classifier of attar's, a network, a module; None for a name of transformers."""

    @property
    def who(self) -> str:
        """The classifier, for messages."""
        return f"the classifier in {self.place}" if self.place else "the classifier"

    @property
    def encoder(self) -> Encoder | None:
        """What makes network input of data that are not images."""
        found: Encoder | None = getattr(self.made, "encoder", None)
        return found

    def seen(self, source: Any) -> Any:
        """A source as the network takes it."""
        return self.encoder.of(source) if self.encoder else source

    @property
    def trained_elsewhere(self) -> bool:
        """Whether nothing tells on which images it was trained, because attar did not train it."""
        return self.how in ("transformers", "module")

    def fitted_to(self, data: Any, say: Say | None = None) -> nn.Module:
        """The network for the images and classes of these data. A module is taken in single precision.

        Raises:
            InputError: It has other classes, or takes other images.
        """
        if self.how == "transformers":
            return labelling_classifier(PREFIX + self.place, data, say)
        if self.how == "module":
            return named_by_classes(copy.deepcopy(self.made).float(), data, say).eval()
        one = self.made.of(data, self.who, say)
        group = getattr(one, "group", None)
        if group is None or one.labels_are_subclasses:
            network: nn.Module = one.network
            return network
        return Grouped(one.network, group).eval()

    @property
    def group(self) -> tuple[int, ...] | None:
        """The class of each logit, if the data's labels are subclasses."""
        known = isinstance(self.made, DistilledClassifier) and self.made.labels_are_subclasses
        return self.made.group if known else None


def digest_of(network: nn.Module) -> str:
    """What tells a network from others: its parameters, and what else decides its outputs."""
    return store.digest_of(network.state_dict(), [facts_of(network)])


def found(classifier: Any) -> Found:
    """The classifier that was given: a module, a folder, or a name.

    Raises:
        InputError: There is none, or it is calibrated already.
    """
    if isinstance(classifier, nn.Module):
        return Found("module", "", classifier)
    if classifier is None:
        raise InputError(f"--classifier must be given: {WHAT}.")
    if isinstance(classifier, Opened) and classifier.folder is not None:
        classifier = classifier.folder
    text = str(classifier)
    folder = Path(text.removeprefix(PREFIX)).expanduser()
    if folder.is_file():
        raise InputError(f"{text} is a file. Give {WHAT}.")
    if not text.startswith(PREFIX) and (folder / "artefact.json").is_file():
        return Found("folder", str(folder.resolve()), _uncalibrated(StoredClassifier.load(folder), text))
    if not text.startswith(PREFIX) and (folder / "network.safetensors").is_file():
        return Found("folder", str(folder.resolve()), TrainedNetwork.load(folder))
    if text.startswith(PREFIX) or (folder / "config.json").is_file():
        _check_safe(folder)
        place = str(folder.resolve()) if folder.is_dir() else text.removeprefix(PREFIX)
        return Found("transformers", place, None)
    if folder.is_dir():
        raise InputError(f"{text} holds no classifier. Give {WHAT}.")
    if not hub.looks_like_one(text):
        raise InputError(f"{text} is no classifier that is there. Give {WHAT}.")
    return Found("hub", text, _uncalibrated(StoredClassifier.from_hub(text), text))


def _check_safe(folder: Path) -> None:
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder} holds no network that is safe to read (safetensors). Pickles are not opened.")


def _uncalibrated(made: Any, text: str) -> Any:
    if not isinstance(made, DistilledClassifier):
        raise InputError(f"{text} is calibrated already, by {made.origin.method}. Give the classifier that it is of.")
    return made


@dataclass(frozen=True)
class Link:
    """Where the classifier of a calibrator lies, and what it is recognised by."""

    how: How
    place: str
    """An absolute path, or a name on the hub; empty for a module."""
    digest: str

    @property
    def local(self) -> bool:
        """Whether it lies on this machine only."""
        return self.how in ("folder", "module") or Path(self.place).is_absolute()

    @property
    def told(self) -> str:
        """The classifier in words."""
        return {"module": "a module of its maker's own", "hub": self.place}.get(self.how, self._short)

    @property
    def _short(self) -> str:
        prefix = PREFIX if self.how == "transformers" else ""
        return prefix + (Path(self.place).name if Path(self.place).is_absolute() else self.place)

    def to_json(self, folder: Path) -> dict[str, Any]:
        """Plain values. A path is relative to the folder if both lie in one folder, or below the working directory."""
        path, here = Path(self.place), folder.resolve()
        if not path.is_absolute():
            return {"how": self.how, "place": self.place, "local": False, "digest": self.digest}
        near = any(path.is_relative_to(home) and here.is_relative_to(home) for home in (Path.cwd(), here.parent))
        place = os.path.relpath(path, here) if near else str(path)
        return {"how": self.how, "place": Path(place).as_posix(), "local": True, "digest": self.digest}

    @classmethod
    def from_json(cls, facts: Any, folder: Path) -> "Link":
        """The inverse."""
        place = str(facts["place"])
        if facts["local"]:
            place = os.path.normpath(folder.resolve() / place)
        return cls(facts["how"], place, str(facts["digest"]))

    def opened(self, form: Form, *, build: Build | None = None) -> nn.Module:
        """The network, as it was when it was calibrated.

        Args:
            form: The images and classes of the calibrator.
            build: A function that makes the network, if it was a module of the caller's own.

        Raises:
            InputError: It has moved, it was changed, or only the caller can make it.
        """
        if self.how == "module" and build is None:
            raise InputError(
                f"the classifier of {form.name} is a module of its maker's own. Give build=, a function that makes the "
                "trained module."
            )
        if self.local and self.how != "module" and not Path(self.place).is_dir():
            raise InputError(
                f"the calibrated classifier is no longer in {self.place}. Move it back, or calibrate it again."
            )
        given = build() if self.how == "module" and build else self.place
        given = PREFIX + self.place if self.how == "transformers" else given
        network = found(given).fitted_to(form)
        if digest_of(network) != self.digest:
            where = f" in {self.place}" if self.place else ""
            raise InputError(f"the classifier{where} is not the one that was calibrated. Calibrate it again.")
        return network.eval()
