"""Any image classifier of `transformers` as a network: fresh, with its weights and a new head, or trained as it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import nn

from attar.core.errors import InputError, reason_of, unknown
from attar.core.extras import install
from attar.core.foreign import NO_CODE, check_no_code
from attar.images.classes import columns_of, unnamed
from attar.images.data.whiten import Transform
from attar.images.networks.architecture import Architecture, Factory, parse
from attar.images.networks.blocks import Images, Logits, Network, Shape
from attar.images.networks.converted import Carried
from attar.images.networks.imagenet import RELEASED
from attar.images.networks.outputs import choosing
from attar.images.networks.preprocessing import LEVELS, Levels, Preprocess, Preprocessing, preprocessing_of
from attar.images.networks.scaled import Scaled

PREFIX = "transformers:"
PROCESSOR = "preprocessor_config.json"
CLASSIFIER = "an image classifier"
LARGEST_SIDE = 10_000
"""Side, in pixels, from which a network's images are a mistake."""
Say = Callable[[str], None]


@runtime_checkable
class Data(Protocol):
    """What a classifier made elsewhere has to fit: an `ImageSource`, or a condensed set."""

    @property
    def shape(self) -> Shape:
        """The shape of the images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def transform(self) -> Transform:
        """The transform that makes network input of pixels."""


def network_named(text: str) -> Architecture | Factory:
    """A network by name: one of attar (`resnet18`, `convnet:norm=batch`), or `transformers:NAME[,pretrained=true]`.

    Besides the networks of the tables these are the ones of `attar.images.networks.imagenet`. `NAME@224` is a network
    that sees images scaled to 224 pixels.

    Raises:
        InputError: The name, an option or a value is unknown.
    """
    if not text.startswith(PREFIX):
        name, at, side = text.rpartition("@")
        return _at(network_named(name), text, side) if at else RELEASED.get(text) or parse(text)
    name, *options = text.removeprefix(PREFIX).split(",")
    settings = {"pretrained": False}
    for option in options:
        key, _, value = option.partition("=")
        if key not in settings:
            raise unknown(f"option of {PREFIX}{name}", key, settings)
        if value not in ("true", "false"):
            raise InputError(f"{key} is {value!r}; it must be true or false.")
        settings[key] = value == "true"
    return transformers_classifier(name, **settings)


def built_as(text: str, shape: Shape, classes: int) -> nn.Module:
    """A network by name, whose parameters are about to be read from a file. The global generator is left as it is.

    Args:
        text: As for `network_named`.
        shape: The shape of the images.
        classes: The number of outputs.

    Raises:
        InputError: The name is unknown, or the images are too small for the network.
    """
    kind = network_named(text)
    if isinstance(kind, Architecture):
        return kind.build(shape, classes, torch.Generator())
    with torch.random.fork_rng(devices=[]):
        return kind(shape, classes)


def _at(kind: Architecture | Factory, text: str, side: str) -> Factory:
    """A function that builds one of attar's own networks for images that are scaled first."""
    if not (side.isdecimal() and 0 < int(side) < LARGEST_SIDE):
        raise InputError(f"{text!r} has {side!r} behind its @. Give a side in pixels, such as 224.")

    def build(shape: Shape, classes: int) -> nn.Module:
        seen = (shape[0], int(side), int(side))
        if isinstance(kind, Architecture):
            seed = int(torch.randint(2**31, ()))  # from the generator that the caller has seeded
            return Scaled(kind.build(seen, classes, torch.Generator().manual_seed(seed)), int(side))
        network = kind(seen, classes)
        assert isinstance(network, Network)
        return Scaled(network, int(side))

    build.__name__ = text
    return build


def transformers_classifier(name: str, *, pretrained: bool = False) -> Factory:
    """A function `(shape, classes) -> module` that builds an image classifier of `transformers`.

    Args:
        name: A folder, a name on the hub, or a kind of model (`resnet`, `vit`, `convnext`) with its default sizes.
        pretrained: Whether to keep its weights, except the head's. Otherwise every parameter is fresh.

    Raises:
        InputError: There is no such model, or it does not take such images. This is raised when it is built.
    """

    def build(shape: Shape, classes: int) -> nn.Module:
        return Classifier(name, shape, classes, pretrained=pretrained)

    build.__name__ = f"{PREFIX}{name}"
    return build


def labelling_classifier(name: str, data: Data, say: Say | None = None, *, every: bool = False) -> nn.Module:
    """A trained classifier of `transformers` with its own head, for network input and classes of these data.

    Its outputs are put in the order of the data's classes by their names. Images go through its own image processor.

    Args:
        name: `transformers:` and a folder or a name on the hub.
        data: The data. Their transform is undone before the processor's work.
        say: Function that prints a line. It is told what is assumed if names of classes or a processor are missing.
        every: Whether to keep all outputs in their own order.

    Raises:
        InputError: There is no such model, it has other classes, or its processor cannot be repeated.
    """
    name = name.removeprefix(PREFIX)
    config = config_of(library(), name, pretrained=True)
    columns = None
    if not every:
        told = getattr(data, "name", "the set")
        names = _names(config)
        names = _names_by_label(config, name) if names is None or unnamed(names) else names
        columns = columns_of(names, config.num_labels, data.classes, who=name, data=told, say=say)
    network = Classifier(name, data.shape, config.num_labels, pretrained=True)
    network.columns = columns
    network.see(data.transform, say)
    return network.eval()


def named_by_classes(network: nn.Module, data: Data, say: Say | None = None) -> nn.Module:
    """A module with its outputs in the order of the data's classes, if it is one of `transformers` that names them.

    Raises:
        InputError: It names other classes.
    """
    config = getattr(network, "config", None)
    names = _names(config) if hasattr(config, "id2label") and hasattr(config, "num_labels") else None
    if names is None or (unnamed(names) and len(names) != len(data.classes)):  # perhaps subclasses: checked later
        return network
    told = getattr(data, "name", "the set")
    return choosing(network, columns_of(names, len(names), data.classes, who="the network", data=told, say=say))


def seeing(network: nn.Module, data: Any, say: Say | None = None) -> nn.Module:
    """The same network. A model of `transformers` with its weights is told how the data's images are made (`see`)."""
    if isinstance(network, Classifier) and network.pretrained:
        network.see(data.transform, say)
    return network


class Telling(nn.Module):
    """A part of a network that tells what decides its outputs besides its parameters."""

    @property
    def facts(self) -> dict[str, Any]:
        """Plain values."""
        return {}


def facts_of(network: nn.Module) -> dict[str, Any]:
    """What decides a network's outputs besides its parameters, in plain values; empty for most networks."""
    if isinstance(network, Classifier):
        return network.facts
    parts = {name: one for name, one in network.named_modules() if isinstance(one, (Classifier, Telling))}
    return {name: one.facts for name, one in parts.items() if one.facts}


class Seeing(nn.Module):
    """A model of `transformers` that is given the images of the data, and sees them as its own image processor would.

    Without a processor (see `see`) images are scaled to the model's own size, if it has one, and one channel is
    repeated to three.
    """

    name: str
    shape: Shape
    """The shape of the data's images."""
    channels: int
    """The number of channels that the model takes."""

    def __init__(self) -> None:
        super().__init__()
        self.side: int | None = None
        self.preprocess: Preprocess | None = None
        self.undone: Carried | None = None

    def see(self, transform: Transform, say: Say | None = None) -> None:
        """Undo a transform of pixels before each pass, and do the work of the model's own image processor.

        Args:
            transform: The transform by which the images are made.
            say: Function that prints a line. It is told what is assumed if the model has no processor.

        Raises:
            InputError: The processor cannot be repeated, or there is none and the images are whitened.
        """
        processor = processor_of(library(), self.name)
        if processor is None:
            if transform.whitening is not None:
                raise InputError(
                    f"{self.name} has no image processor ({PROCESSOR}), so nothing tells how it takes "
                    "whitened images. Save its processor beside it, or do not whiten (--zca)."
                )
            if say is not None:
                say(
                    f"{self.name} has no image processor ({PROCESSOR}), so it is given images normalised "
                    f"as the data are: mean {_told(transform.mean)}, std {_told(transform.std)}."
                )
            return
        shape = (max(self.channels, self.shape[0]), *self.shape[1:])
        self.see_as(transform, preprocessing_of(processor, shape, self.name))

    def see_as(self, transform: Transform, preprocessing: Preprocessing) -> None:
        """Undo a transform of pixels before each pass, and do this work then."""
        self.undone, self.preprocess = Carried(transform), Preprocess(preprocessing)

    def seen(self, images: Images) -> Levels:
        """Images as the model takes them."""
        if self.preprocess is None or self.undone is None:
            images = self._repeated(images)
            if self.side is not None and images.shape[-2:] != (self.side, self.side):
                images = F.interpolate(images, size=(self.side, self.side), mode="bilinear", antialias=True)
            return images
        with torch.autocast(images.device.type, enabled=False):  # levels need more than eight bits
            pixels = self.undone.transform.inverse(images.float())
            return self.preprocess(self._repeated(LEVELS * pixels))

    def _repeated(self, images: Levels) -> Levels:
        return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 and self.channels == 3 else images

    @torch.no_grad()
    def _try(self, name: str, shape: Shape) -> None:
        try:
            self.eval()(torch.zeros(1, *shape))
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{name} does not take images of {shape[2]}×{shape[1]} ({reason}).") from None
        self.train()


class Classifier(Seeing):
    """A classifier of `transformers` that takes images and gives logits.

    The numbers of channels and classes are those of the data. A fresh model is built for the image size of the data,
    with eight by eight patches if it has patches. A pretrained model sees images through its own image processor, see
    `see`. Without one, images are scaled to its own size, and one channel is repeated to three.
    """

    def __init__(self, name: str, shape: Shape, classes: int, *, pretrained: bool) -> None:
        super().__init__()
        transformers = library()
        config = config_of(transformers, name, pretrained=pretrained)
        self.name, self.shape, self.pretrained = name, shape, pretrained
        self.channels = shape[0]
        self.columns: tuple[int, ...] | None = None
        self.all_outputs = classes
        if pretrained:
            self.channels, self.side = getattr(config, "num_channels", 3), side_of(config)
            self.model = _weighed(transformers, name, classes)
            return
        config.num_labels = classes
        fit(config, shape)
        try:
            self.model = transformers.AutoModelForImageClassification.from_config(config)
        except (ValueError, TypeError) as error:
            raise InputError(f"{name} does not classify images ({str(error).splitlines()[0]}).") from None
        self._try(name, shape)

    @property
    def facts(self) -> dict[str, Any]:
        """The processor's work and the choice of outputs, in plain values; empty if there is neither."""
        seen = {"preprocessing": self.preprocess.plain.to_json()} if self.preprocess else {}
        return seen | ({"columns": list(self.columns)} if self.columns else {})

    def forward(self, images: Images) -> Logits:
        """The logits of images."""
        logits = self.model(pixel_values=self.seen(images)).logits
        return logits if self.columns is None else logits[:, list(self.columns)]


def _told(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _names(config: Any) -> list[str] | None:
    """The names of a model's outputs, in their order, if it names each."""
    names = {int(place): str(name) for place, name in (getattr(config, "id2label", None) or {}).items()}
    places = range(config.num_labels)
    return [names[place] for place in places] if names.keys() == set(places) else None


def _names_by_label(config: Any, name: str) -> list[str] | None:
    """The same from `label2id`, which transformers leaves out where there is no `id2label`."""
    facts, _ = config.get_config_dict(name)
    numbers = facts.get("label2id")
    if not isinstance(numbers, dict) or set(map(str, numbers.values())) != set(map(str, range(config.num_labels))):
        return _names(config)
    names = {int(place): str(label) for label, place in numbers.items()}
    return [names[place] for place in range(config.num_labels)]


def processor_of(transformers: Any, name: str) -> Any:
    """The image processor that was saved with a model, or None.

    Raises:
        InputError: There is one, but it cannot be read here.
    """
    try:
        return transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
        if isinstance(error, OSError) and not (Path(name) / PROCESSOR).exists():
            return None
        reason = reason_of(error)
        raise InputError(f"the image processor of {name} cannot be read here ({reason}).") from None


def fit(config: Any, shape: Shape) -> None:
    """Set the channels and the image size of a configuration to those of the data."""
    if hasattr(config, "num_channels"):
        config.num_channels = shape[0]
    if hasattr(config, "image_size") and config.image_size != min(shape[1:]):
        config.image_size = min(shape[1:])
        if isinstance(getattr(config, "patch_size", None), int):
            config.patch_size = max(1, min(shape[1:]) // 8)


def side_of(config: Any) -> int | None:
    """The side of the images that a configuration names."""
    size = getattr(config, "image_size", None)
    return size if isinstance(size, int) else None


def library() -> Any:
    """The library `transformers`.

    Raises:
        InputError: It is not installed.
    """
    try:
        import transformers
    except ModuleNotFoundError:
        raise InputError(f"transformers:... networks need transformers: {install('transformers')}.") from None
    return transformers


def config_of(transformers: Any, name: str, *, pretrained: bool, what: str = CLASSIFIER) -> Any:
    """The configuration in a folder or on the hub, or that of a kind of model with its default sizes.

    Raises:
        InputError: There is none, or it names code.
    """
    if not pretrained and name in transformers.CONFIG_MAPPING:
        return transformers.CONFIG_MAPPING[name]()
    return fetched(name, lambda: transformers.AutoConfig.from_pretrained(name, **NO_CODE), what)


def _weighed(transformers: Any, name: str, classes: int) -> Any:
    """A classifier with its weights. Its configuration has been found before."""
    kind = transformers.AutoModelForImageClassification
    return weighed(kind, name, CLASSIFIER, num_labels=classes, ignore_mismatched_sizes=True)


def weighed(kind: Any, name: str, what: str, **settings: Any) -> Any:
    """A model of an Auto class with its weights, which are read from safetensors only.

    Raises:
        InputError: There are no such weights, or they are those of another kind of model.
    """
    try:
        return kind.from_pretrained(name, use_safetensors=True, dtype=torch.float32, **settings, **NO_CODE)
    except OSError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{name!r} has no safetensors weights, and attar does not open pickles ({reason}).") from None
    except ValueError as error:
        raise _no_such(name, error, what) from None


def fetched(name: str, fetch: Any, what: str = CLASSIFIER) -> Any:
    """Fetch something from a folder or the hub by name.

    Raises:
        InputError: There is nothing of the name, or it names code.
    """
    check_no_code(name)
    try:
        return fetch()
    except (OSError, ValueError) as error:
        raise _no_such(name, error, what) from None


def _no_such(name: str, error: Exception, what: str = CLASSIFIER) -> InputError:
    reason = str(error).splitlines()[0].rstrip(".")
    return InputError(f"{name!r} is not {what} in a folder or on the hub ({reason}).")
