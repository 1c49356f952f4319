"""A classifier followed by its calibrator, as one network that gives log-probabilities."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.classifiers.calibration.calibration import Calibration, Learned, Logits
from attar.classifiers.subclasses import Grouping
from attar.classifiers.watched import taken
from attar.core.errors import InputError
from attar.core.precision import at_least_float32, without_autocast
from attar.core.settings import plain
from attar.images.data.whiten import Transform
from attar.images.networks.blocks import Embeddings, Images, Maps, Network
from attar.images.networks.converted import Carried
from attar.images.networks.outputs import logits_in
from attar.images.networks.pretrained import Telling

PREFIX = "learned_"


class CalibratorModule(Telling):
    """What was learned, as buffers of a module: logits to log-probabilities, in single precision or better.

    Args:
        method: The settings of the calibrator.
        learned: What it has learned.
    """

    def __init__(self, method: Calibration, learned: Learned) -> None:
        super().__init__()
        self.method, self.names = method, tuple(learned)
        self.columns: tuple[int, ...] | None = None
        for name, tensor in learned.items():
            self.register_buffer(PREFIX + name, tensor.detach().clone())

    @property
    def learned(self) -> dict[str, Tensor]:
        """What was learned, where the network is."""
        return {name: getattr(self, PREFIX + name) for name in self.names}

    @property
    def facts(self) -> dict[str, Any]:
        """The settings, and the choice of outputs."""
        chosen = {} if self.columns is None else {"columns": list(self.columns)}
        return {"calibrator": self.method.name, "settings": plain(self.method), **chosen}

    def forward(self, logits: Logits, views: Sequence[Logits] = ()) -> Logits:
        """Calibrated log-probabilities."""
        with without_autocast(logits):
            seen = [at_least_float32(view) for view in views]
            found = self.method.applied(self.learned, at_least_float32(logits), seen)
        return found if self.columns is None else found[:, list(self.columns)]


class Head(nn.Module):
    """The classifier of a network, and its calibrator."""

    def __init__(self, classifier: nn.Module, calibrator: CalibratorModule) -> None:
        super().__init__()
        self.classifier, self.calibrator = classifier, calibrator

    def forward(self, embedding: Embeddings) -> Logits:
        """Calibrated log-probabilities of embeddings."""
        found: Logits = self.calibrator(self.classifier(embedding))
        return found


class CalibratedNetwork(Network):
    """One of attar's own networks with a calibrator of its logits. Its stages can still be compared."""

    classifier: Head

    def __init__(self, network: Network, calibrator: CalibratorModule) -> None:
        super().__init__()
        self.network, self.classifier = network, Head(network.classifier, calibrator)
        self.before_activation = tuple(f"network.{name}" for name in network.before_activation)

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The features of the network."""
        return self.network.features(images)

    def keep_outputs_(self, columns: Sequence[int]) -> None:
        """Keep only these outputs, in this order. They are calibrated together with the others."""
        calibrator = self.classifier.calibrator
        known = calibrator.columns
        calibrator.columns = tuple(column if known is None else known[column] for column in columns)


class CalibratedModule(nn.Module):
    """A module of any kind with a calibrator, which may look at transformed copies of images.

    Args:
        network: A network that gives logits of images, or of named inputs as models of text take them.
        calibrator: Its calibrator.
        transform: The transform that makes network input of pixels, if the calibrator looks at copies.
    """

    def __init__(self, network: nn.Module, calibrator: CalibratorModule, transform: Transform | None = None) -> None:
        super().__init__()
        self.network, self.calibrator = network, calibrator
        looks = calibrator.method.looks_at_views
        if looks and transform is None:
            raise InputError(f"{calibrator.method.name} looks at copies of images. Give the transform of their pixels.")
        self.carried = Carried(transform, stored=True) if looks and transform is not None else None

    def forward(self, *inputs: Any, **named: Any) -> Logits:
        """Calibrated log-probabilities."""
        copies = [] if self.carried is None else views_of(self.calibrator.method, inputs[0], self.carried.transform)
        seen = [logits_in(self.network(copy)) for copy in copies]
        logits = logits_in(self.network(*inputs, **taken(self.network, named)))  # last, so hooks have its features
        return self.calibrator(logits, seen)


class Grouped(Telling):
    """A network whose logits are subclasses, with one logit for each class."""

    def __init__(self, network: nn.Module, group: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.group = network, group

    @property
    def facts(self) -> dict[str, Any]:
        """The class of each subclass."""
        return {"group": list(self.group)}

    def forward(self, images: Images) -> Logits:
        """The logits of the classes."""
        return Grouping(self.group).class_logits(logits_in(self.network(images)))


def calibrated(
    network: nn.Module, method: Calibration, learned: Learned, transform: Transform | None = None
) -> nn.Module:
    """A network with a calibrator of its logits: a classifier for every use, such as a teacher inside a Trainer.

    Args:
        network: The network. It is not copied.
        method: The settings of the calibrator.
        learned: What it has learned.
        transform: The transform that makes network input of pixels, if the calibrator looks at copies of images.
    """
    calibrator = CalibratorModule(method, learned)
    if isinstance(network, Network) and not method.looks_at_views:
        return CalibratedNetwork(network, calibrator).eval()
    return CalibratedModule(network, calibrator, transform).eval()


def views_of(method: Calibration, images: Images, transform: Transform) -> list[Images]:
    """The transformed copies of network input that a calibrator looks at, which are made of its pixels."""
    if not method.looks_at_views:
        return []
    with without_autocast(images):
        pixels = transform.inverse(images.float()).clamp(0, 1)
        return [transform.forward(view) for view in method.copies(pixels)]


@torch.no_grad()
def logits_of(
    network: nn.Module, shown: Callable[[Tensor], Images], count: int, transform: Transform, method: Calibration
) -> tuple[Float[Tensor, "sample classes"], list[Float[Tensor, "sample classes"]]]:
    """The logits of images and of their transformed copies, in double precision on the CPU.

    Args:
        network: The network, in evaluation.
        shown: Function that gives network input for numbers of images.
        count: The number of images.
        transform: The transform that makes network input of pixels.
        method: The calibrator that looks at the copies.
    """
    parts: list[list[Tensor]] = []
    for rows in torch.arange(count).split(256):
        images = shown(rows)
        seen = (images, *views_of(method, images, transform))
        parts.append([logits_in(network(one), "classifier").cpu().double() for one in seen])
    logits, *others = [torch.cat(list(one)) for one in zip(*parts, strict=True)]
    return logits, others
