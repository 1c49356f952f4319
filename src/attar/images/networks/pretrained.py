"""Any image classifier of `transformers` as a network for evaluation: fresh, or with its weights and a new head."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from attar.core.errors import InputError, unknown
from attar.core.foreign import NO_CODE, check_no_code
from attar.images.networks.architecture import Architecture, Factory, parse
from attar.images.networks.blocks import Images, Logits, Shape

PREFIX = "transformers:"


def network_named(text: str) -> Architecture | Factory:
    """A network by name: one of attar (`resnet18`, `convnet:norm=batch`), or `transformers:NAME[,pretrained=true]`.

    Raises:
        InputError: The name, an option or a value is unknown.
    """
    if not text.startswith(PREFIX):
        return parse(text)
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


def labelling_classifier(name: str, shape: Shape, classes: int | None = None) -> nn.Module:
    """A trained classifier of `transformers` with its own head, for data with the classes of that head.

    Args:
        name: `transformers:` and a folder or a name on the hub.
        shape: The shape of the images.
        classes: The number of classes of the data, if it must be equal.

    Raises:
        InputError: There is no such model, or it has another number of classes.
    """
    name = name.removeprefix(PREFIX)
    known = _config(_library(), name, pretrained=True).num_labels
    if classes is not None and known != classes:
        raise InputError(f"{name} has {known} classes, but the data have {classes}. Give one trained on these classes.")
    return Classifier(name, shape, known, pretrained=True).eval()


class Classifier(nn.Module):
    """A classifier of `transformers` that takes images and gives logits.

    The numbers of channels and classes are those of the data. A fresh model is built for the image size of the data,
    with eight by eight patches if it has patches. For a pretrained model images are scaled to its own size, and one
    channel is repeated to three.
    """

    def __init__(self, name: str, shape: Shape, classes: int, *, pretrained: bool) -> None:
        super().__init__()
        transformers = _library()
        config = _config(transformers, name, pretrained=pretrained)
        self.channels, self.side = shape[0], None
        if pretrained:
            self.channels, self.side = getattr(config, "num_channels", 3), _side(config)
            self.model = _weighed(transformers, name, classes)
            return
        config.num_labels = classes
        _fit(config, shape)
        try:
            self.model = transformers.AutoModelForImageClassification.from_config(config)
        except (ValueError, TypeError) as error:
            raise InputError(f"{name} does not classify images ({str(error).splitlines()[0]}).") from None
        self._try(name, shape)

    def forward(self, images: Images) -> Logits:
        """The logits of images."""
        if images.shape[1] == 1 and self.channels == 3:
            images = images.expand(-1, 3, -1, -1)
        if self.side is not None and images.shape[-2:] != (self.side, self.side):
            images = F.interpolate(images, size=(self.side, self.side), mode="bilinear", antialias=True)
        return self.model(pixel_values=images).logits

    @torch.no_grad()
    def _try(self, name: str, shape: Shape) -> None:
        try:
            self.eval()(torch.zeros(1, *shape))
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{name} does not take images of {shape[2]}×{shape[1]} ({reason}).") from None
        self.train()


def _fit(config: Any, shape: Shape) -> None:
    """Set the channels and the image size of a configuration to those of the data."""
    if hasattr(config, "num_channels"):
        config.num_channels = shape[0]
    if hasattr(config, "image_size") and config.image_size != min(shape[1:]):
        config.image_size = min(shape[1:])
        if isinstance(getattr(config, "patch_size", None), int):
            config.patch_size = max(1, min(shape[1:]) // 8)


def _side(config: Any) -> int | None:
    size = getattr(config, "image_size", None)
    return size if isinstance(size, int) else None


def _library() -> Any:
    try:
        import transformers
    except ModuleNotFoundError:
        raise InputError("transformers:... networks need transformers: pip install 'attar[transformers]'.") from None
    return transformers


def _config(transformers: Any, name: str, *, pretrained: bool) -> Any:
    if not pretrained and name in transformers.CONFIG_MAPPING:
        return transformers.CONFIG_MAPPING[name]()
    return _fetched(name, lambda: transformers.AutoConfig.from_pretrained(name, **NO_CODE))


def _weighed(transformers: Any, name: str, classes: int) -> Any:
    """A model with its weights. Its configuration has been found before."""
    kind = transformers.AutoModelForImageClassification
    settings = {"num_labels": classes, "ignore_mismatched_sizes": True, "use_safetensors": True, "dtype": torch.float32}
    try:
        return kind.from_pretrained(name, **settings, **NO_CODE)
    except OSError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{name!r} has no safetensors weights, and attar does not open pickles ({reason}).") from None
    except ValueError as error:
        raise _no_classifier(name, error) from None


def _fetched(name: str, fetch: Any) -> Any:
    """Fetch something from a folder or the hub by name."""
    check_no_code(name)
    try:
        return fetch()
    except (OSError, ValueError) as error:
        raise _no_classifier(name, error) from None


def _no_classifier(name: str, error: Exception) -> InputError:
    reason = str(error).splitlines()[0].rstrip(".")
    return InputError(f"{name!r} is not an image classifier in a folder or on the hub ({reason}).")
