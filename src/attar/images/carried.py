"""A trained network that a condensed set carries to label its images, where attar did not train it for that.

It is one of attar's own networks, such as an imported teacher or a student, with the transform that it was trained
with. (`TrainedNetwork` is a network that was trained on the data itself.)
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from attar.core import store
from attar.core.errors import InputError
from attar.images.classes import columns_of
from attar.images.data.whiten import Transform
from attar.images.networks.blocks import Network
from attar.images.networks.converted import for_images_of
from attar.images.networks.outputs import choosing
from attar.images.networks.pretrained import PREFIX, built_as

FILE = "carried.safetensors"


@dataclass
class CarriedTeacher:
    """A network by words with its weights, for the images of a set."""

    inner: Network
    """It takes images by its own transform."""
    word: str
    own: Transform
    given: Transform
    """Transform of the images of the set."""
    shape: tuple[int, int, int]
    classes: tuple[str, ...]

    @classmethod
    def of_artefact(cls, made: Any, data: Any, who: str) -> Self:
        """The network of a student or an imported teacher, for the images of these data.

        Args:
            made: The artefact, for the images and the classes that it was made with.
            data: The data.
            who: The artefact, for messages.

        Raises:
            InputError: It cannot be built by words, has other classes, or images are whitened.
        """
        word, network = getattr(made, "student", None), made.network
        if word is None or word.startswith(PREFIX) or not isinstance(network, Network) or made.group is not None:
            raise InputError(f"{who} cannot be saved with a set, because it is not one of attar's networks.")
        one = cls(network, word, made.transform, data.transform, made.shape, made.classes)
        if made.transform.whitening is not None or data.transform.whitening is not None:
            raise InputError(f"{who} cannot be saved with a set of whitened images. Do not whiten (--zca).")
        return one.of(data, who)

    @cached_property
    def network(self) -> nn.Module:
        """The network for the images of the set."""
        return for_images_of(self.inner, self.given, self.own).eval()

    def of(self, data: Any, who: str, say: Callable[[str], None] | None = None) -> Self:
        """The same network for the images and the classes of these data: their outputs by name, in their order.

        Args:
            data: The data.
            who: The network, for messages.
            say: Function that prints a line, which is told if the order of classes is assumed.

        Raises:
            InputError: It has other classes, or takes images of another shape.
        """
        told = getattr(data, "name", "the set")
        if self.shape != data.shape:
            raise InputError(
                f"{who} takes images of {self.shape}, but {told} has {data.shape}. Choose another network."
            )
        columns = None
        if self.classes != data.classes:
            columns = columns_of(self.classes, len(self.classes), data.classes, who=who, data=told, say=say)
        network: Any = self.inner if columns is None else choosing(copy.deepcopy(self.inner), columns)
        return replace(self, inner=network, given=data.transform, classes=tuple(data.classes))

    def save(self, folder: Path) -> str:
        """Write the network to a folder, and return its digest."""
        means = {name: {"mean": list(one.mean), "std": list(one.std)} for name, one in self._transforms.items()}
        plain = {"network": self.word, "shape": list(self.shape), "classes": list(self.classes), **means}
        return store.write_tensors(folder / FILE, self.inner.state_dict(), plain)

    @property
    def _transforms(self) -> dict[str, Transform]:
        return {"own": self.own, "given": self.given}

    @property
    def learned(self) -> dict[str, Tensor]:
        """The network's weights, and the statistics of its batch norm."""
        return dict(self.inner.state_dict())

    @property
    def parts(self) -> list[dict[str, Tensor]]:
        """The tensors that are saved with a set that the network labels, one entry per file."""
        return [self.inner.state_dict()]

    def note(self, images: int) -> str:
        """The sentence of a card about the network."""
        return f"The network in `teacher/` ({self.word}) labels augmented images; its bytes are counted."

    def picture(self) -> None:
        """A network has no picture."""

    @classmethod
    def load(cls, folder: Path, *, digest: str | None = None) -> Self:
        """Read what `save` wrote, and check its digest.

        Raises:
            InputError: The file is missing or damaged, or it has another digest.
        """
        path = folder / FILE
        tensors, plain = store.read_tensors(path)
        if digest is not None and store.digest_of(tensors, plain) != digest:
            raise InputError(f"{path} is not the file that artefact.json describes.")
        channels, height, width = plain["shape"]
        shape, classes = (channels, height, width), tuple(plain["classes"])
        network: Any = built_as(plain["network"], shape, len(classes))
        network.load_state_dict(tensors)
        own, given = (Transform(tuple(plain[of]["mean"]), tuple(plain[of]["std"])) for of in ("own", "given"))
        return cls(network.eval(), plain["network"], own, given, shape, classes)
