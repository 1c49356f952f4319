"""What makes network input of data that are not images, such as rows of a table; it is kept with its classifier.

It is stored as tensors and facts beside the classifier, and read by the name of its class, which must be attar's or
that of a package whose method is registered. A source that is seen through one carries it as `encoder`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from attar.core import artefact as core
from attar.core import store
from attar.core.errors import InputError, shortened
from attar.core.registry import class_in
from attar.core.score import Better

if TYPE_CHECKING:
    from attar.core.runtime import Runtime
    from attar.images.sources import ImageSource

FILE = "encoder.safetensors"
VERBS = ("train", "distill", "calibrate")
"""Verbs that make classifiers."""
Input = Float[Tensor, "sample channel height width"]
Answer = Callable[[Input], Float[Tensor, "sample classes"]]
"""Class logits for network input."""
Measures = dict[str, tuple[float, str, Better]]
"""Measured values by name, each with its unit and the direction that is better."""


class Encoder(ABC):
    """What makes network input of samples, with the words for them and the measures that they allow."""

    things: ClassVar[str]
    """What samples are called: "rows"."""
    pipeline: ClassVar[str]
    """The hub's word for what its classifiers are for."""
    tag: ClassVar[str]
    """What its classifiers are found by on the hub."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Those of its measures that have a column of their own in an evaluation, with rivals."""

    @property
    @abstractmethod
    def told(self) -> str:
        """What it takes and what is answered, in sentences for the card."""

    @property
    @abstractmethod
    def example(self) -> str:
        """Lines of code in which `classifier` answers."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What it has learned."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What else it needs, as plain values."""

    @classmethod
    @abstractmethod
    def restored(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Self:
        """The inverse of `tensors` and `facts`."""

    @abstractmethod
    def input_of(self, data: Any) -> Input:
        """Samples as the network takes them.

        Raises:
            InputError: They are not what it takes.
        """

    @abstractmethod
    def named(self, classes: tuple[str, ...], numbers: Int[Tensor, " sample"]) -> np.ndarray:
        """The names of classes, by their numbers."""

    @abstractmethod
    def of(self, source: Any) -> "ImageSource":
        """A source as its networks take it.

        Raises:
            InputError: It holds other things.
        """

    def measured(self, source: "ImageSource", classes: tuple[str, ...], answer: Answer) -> Measures:
        """Further measures of a classifier on the test samples.

        Args:
            source: What `of` has given.
            classes: The classes of the classifier.
            answer: Its logits for network input.
        """
        return {}

    def rivals(self, source: "ImageSource", made: Any, runtime: "Runtime") -> dict[str, Measures]:
        """The accuracy and those further measures of others that learned from the same samples, by what they are.

        Args:
            source: What `of` has given.
            made: The classifier.
            runtime: The machine and the seed.
        """
        return {}


def encoder_of(source: Any) -> Encoder | None:
    """The encoder through which a source is seen, if it is."""
    found = getattr(source, "encoder", None)
    return found if isinstance(found, Encoder) else None


def write_encoder(folder: Path, encoder: Encoder | None) -> dict[str, Any]:
    """Write an encoder, if there is one; return what `artefact.json` says of it."""
    if encoder is None:
        return {}
    digest = store.write_tensors(folder / FILE, encoder.tensors(), encoder.facts())
    made = type(encoder)
    return {"encoder": {"class": f"{made.__module__}:{made.__qualname__}", "digest": digest}}


def read_encoder(folder: Path, facts: Mapping[str, Any]) -> Encoder | None:
    """The inverse.

    Raises:
        InputError: The file is missing, damaged or altered, or the class is neither attar's nor of the method's
            package.
    """
    known = facts.get("encoder")
    if known is None:
        return None
    ref = str(known["class"])
    found = class_in(ref, Encoder, str(facts["origin"]["method"]), VERBS)  # type: ignore[type-abstract]
    if found is None:
        where = folder / core.ARTEFACT
        raise InputError(f"{where} names the encoder {shortened(ref)!r}, which this attar does not know.")
    tensors, plain = core.read_tensors(folder / FILE, known["digest"])
    return found.restored(tensors, plain)
