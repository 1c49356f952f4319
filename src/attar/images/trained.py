"""Auxiliary networks of a method: read from a folder, or trained once on all the data and kept in the cache."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import nn

from attar.core.errors import InputError
from attar.core.kinds import kind_in
from attar.core.provenance import ARTEFACT
from attar.core.runtime import Runtime
from attar.core.settings import Settings
from attar.core.training import cached
from attar.images import layout
from attar.images.carried import CarriedTeacher
from attar.images.networks.architecture import Architecture
from attar.images.networks.pretrained import PREFIX, Say, labelling_classifier
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.sources import ImageSource
from attar.images.training import TrainedNetwork, TrainNetwork

Saved = TrainedNetwork | CarriedTeacher
"""A network that can be saved with a condensed set."""


@dataclass(frozen=True, kw_only=True)
class Auxiliary(Settings):
    """An auxiliary network of a method: read from a folder, or trained on all the data."""

    folder: str | None = None
    """A trained network: its folder, or transformers:NAME. Default: a network is trained."""
    architecture: Architecture = field(default_factory=Architecture)
    """The network to train."""
    protocol: Protocol = PROTOCOLS["ceiling"]
    """Protocol of its training."""

    itself: ClassVar[str] = "folder"

    def resolve(self, shape: tuple[int, int, int]) -> Self:
        """Fill in the network's depth."""
        return replace(self, architecture=self.architecture.resolve(shape))

    def found(self, source: ImageSource, runtime: Runtime) -> TrainedNetwork:
        """The network: from its folder, from the cache, or trained now and saved there.

        Raises:
            InputError: The folder has no network, or its network has other classes or another image size.
        """
        return found_or_trained(self.folder, source, self.architecture, runtime, self.protocol)

    @property
    def foreign(self) -> bool:
        """Whether it is a classifier of transformers, or an artefact that classifies, such as a student."""
        return self.folder is not None and (self.folder.startswith(PREFIX) or holds_artefact(self.folder))

    def classifier(self, source: ImageSource, runtime: Runtime) -> nn.Module:
        """The network as a classifier of these images.

        It may be one of transformers (transformers:NAME_OR_FOLDER), or a student or classifier in its folder.

        Raises:
            InputError: There is no such network, or it has other classes or another image size.
        """
        if self.foreign:
            return layout.place(classifier_in(str(self.folder), source, runtime.say), runtime)
        return self.found(source, runtime).network

    @property
    def carries(self) -> bool:
        """Whether it can be saved with a set, to label images: as none of transformers can."""
        return self.folder is None or not self.folder.startswith(PREFIX)

    def carried(self, source: ImageSource, runtime: Runtime) -> Saved:
        """The network as it is saved with a set of these images.

        Raises:
            InputError: There is no such network, or it cannot be saved with a set.
        """
        if not self.foreign:
            return self.found(source, runtime)
        found = CarriedTeacher.of_artefact(made_in(str(self.folder)), source, f"the network in {self.folder}")
        layout.place(found.network, runtime)
        return found


TRAINED = Auxiliary()
"""The field's ConvNet, trained by the protocol ceiling."""
BATCH_NORM = Auxiliary(architecture=Architecture(norm="batch"))
"""The same network with batch norm, which keeps statistics of its training images."""


def holds_artefact(folder: str) -> bool:
    """Whether an artefact lies in a folder."""
    return (Path(folder) / ARTEFACT).is_file()


def classifier_in(folder: str, data: Any, say: Say | None = None) -> nn.Module:
    """A classifier of transformers, or that of an artefact of any kind, for the images and classes of these data.

    Args:
        folder: `transformers:` with a name or folder, or the folder of an artefact.
        data: The data.
        say: Function that prints a line.

    Raises:
        InputError: The artefact does not classify images, or has other classes or images.
    """
    if folder.startswith(PREFIX):
        return labelling_classifier(folder, data, say)
    one = made_in(folder).of(data, f"the network in {folder}", say)
    if one.group is not None:
        raise InputError(f"the network in {folder} gives subclasses, not classes. Give a classifier of these classes.")
    network: nn.Module = one.network
    return network


def made_in(folder: str) -> Any:
    """The artefact in a folder.

    Raises:
        InputError: It does not classify images.
    """
    kind = kind_in(Path(folder))
    made: Any = None if kind is None else kind.load(folder)
    if not hasattr(made, "of") or not hasattr(made, "logits"):
        raise InputError(f"{folder} holds no classifier of images, but {kind.makes if kind else 'something else'}.")
    return made


def trained(source: ImageSource, architecture: Architecture, runtime: Runtime, protocol: Protocol) -> TrainedNetwork:
    """A network trained on all of a source: from the cache, or trained now and saved there (resumable)."""
    method = TrainNetwork(architecture=architecture, protocol=protocol).resolve(source)
    network = cached(method, source, runtime, title="training on all images")
    layout.place(network.network, runtime)
    return network


def found_or_trained(
    folder: str | None, source: ImageSource, architecture: Architecture, runtime: Runtime, protocol: Protocol
) -> TrainedNetwork:
    """The network in a folder, with outputs in the order of the source's classes by name; or one trained on the source.

    Raises:
        InputError: The folder has no network, or its network has other classes or another image size.
    """
    if folder is None:
        return trained(source, architecture, runtime, protocol)
    if Path(folder).is_file():
        raise InputError(f"{folder} is a file. Give the folder of a network: attar import teacher makes one of a file.")
    found = TrainedNetwork.load(Path(folder)).of(source, f"the network in {folder}", runtime.say)
    runtime.prepared.count(Path(folder))
    layout.place(found.network, runtime)
    return found
