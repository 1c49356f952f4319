"""Models of `transformers` without a head: by words, by a configuration that was kept, and as encoders of images."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attar.core.errors import InputError, reason_of, unknown
from attar.core.foreign import NO_CODE, check_plain
from attar.embeddings.encoders import Encoder, Features
from attar.images.data.whiten import Transform
from attar.images.networks.blocks import Images, Shape
from attar.images.networks.preprocessing import Preprocessing
from attar.images.networks.pretrained import PREFIX, Say, Seeing, config_of, fit, library, side_of, weighed

MODEL = "a model of transformers"
POOLS = ("mean", "cls", "pooled")
"""Features of images: the mean over places or tokens, the first token, or what the model itself pools."""
PLACES = ("_name_or_path", "transformers_version")
"""Entries of a configuration that tell where it was, not what it is."""


def options_of(text: str, usual: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The name and the options of transformers:NAME,option=value.

    Raises:
        InputError: An option is unknown.
    """
    name, *options = text.removeprefix(PREFIX).split(",")
    found = dict(usual)
    for option in options:
        key, _, value = option.partition("=")
        if key not in usual:
            raise unknown(f"option of {PREFIX}{name}", key, usual)
        found[key] = value
    if found["pretrained"] not in ("true", "false"):
        raise InputError(f"pretrained is {found['pretrained']!r}; it must be true or false.")
    return name, found


def kept_config(config: Any) -> dict[str, Any]:
    """A configuration as plain values, from which the model can be built without its folder."""
    found = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in found.items() if key not in PLACES}


def config_from(kept: Mapping[str, Any]) -> Any:
    """The configuration of plain values.

    Raises:
        InputError: It names code, or is of a kind of model that is not known here.
    """
    check_plain(dict(kept), "the configuration of the encoder")
    kinds = library().CONFIG_MAPPING
    if kept.get("model_type") not in kinds:
        raise InputError(f"the transformers that is installed has no model {kept.get('model_type')!r}. Update it.")
    return kinds[kept["model_type"]].from_dict(dict(kept))


def fresh_model(config: Any, name: str) -> nn.Module:
    """A model without a head, with fresh weights.

    Raises:
        InputError: There is no such model without a head.
    """
    try:
        model: nn.Module = library().AutoModel.from_config(config, **NO_CODE)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise InputError(f"{name} has no model without a head ({reason_of(error)}).") from None
    return model.float()


def pretrained_model(name: str) -> nn.Module:
    """A model without a head, with its weights, which are read from safetensors only.

    Raises:
        InputError: There are none.
    """
    model: nn.Module = weighed(library().AutoModel, name, MODEL)
    return model


def without_pooler(model: nn.Module) -> nn.Module:
    """The same model without the layer that pools, if that has parameters: nobody would train them."""
    pooler = getattr(model, "pooler", None)
    if isinstance(pooler, nn.Module) and any(True for _ in pooler.parameters()):
        model.pooler = None  # type: ignore[assignment]
    return model


class Vision(Encoder):
    """An image model of `transformers`: the mean over places or tokens, its first token, or what it pools.

    A model with its weights sees images through its own image processor. A fresh one is built for the size and the
    channels of the data.

    Args:
        name: The words by which it is built.
        model: The model.
        eye: How it is given images.
        pool: Which of `POOLS`.
    """

    def __init__(self, name: str, model: nn.Module, eye: Seeing, pool: str) -> None:
        super().__init__()
        if pool not in POOLS:
            raise unknown("pool", pool, POOLS)
        self.name, self.pool, self.eye = name, pool, eye
        self.model = model if pool == "pooled" else without_pooler(model)
        self.width = self._tried()

    @property
    def facts(self) -> dict[str, Any]:
        """Configuration, pooling, and how images are seen."""
        eye = self.eye
        found: dict[str, Any] = {"config": kept_config(self.model.config), "pool": self.pool, "side": eye.side}
        found["channels"] = eye.channels
        if eye.preprocess is not None and eye.undone is not None:
            found["preprocessing"] = eye.preprocess.plain.to_json()
            if eye.undone.whitening is None:
                plain = eye.undone.plain
                found |= {"mean": list(plain.mean), "std": list(plain.std)}
        return found

    def forward(self, samples: Images) -> Features:
        """The features of images."""
        found = self.model(pixel_values=self.eye.seen(samples))
        if self.pool == "pooled":
            return found.pooler_output.flatten(1)
        last: Tensor = found.last_hidden_state
        if last.ndim == 4 and self.pool == "cls":
            raise InputError(f"{self.eye.name} has maps, and no first token. Give pool=mean.")
        if self.pool == "cls":
            return last[:, 0]
        return last.mean(dim=(2, 3)) if last.ndim == 4 else last.mean(dim=1)

    @torch.no_grad()
    def _tried(self) -> int:
        training, shape = self.training, self.eye.shape
        try:
            found = self.eval()(torch.zeros(1, *shape))
        except (ValueError, RuntimeError, TypeError, AttributeError) as error:
            told = f"{self.eye.name} does not take images of {shape[2]}×{shape[1]} with pool={self.pool}"
            raise InputError(f"{told} ({reason_of(error)}).") from None
        self.train(training)
        return int(found.shape[1])


def vision_named(text: str, shape: Shape, transform: Transform, say: Say | None = None) -> Vision:
    """An image model by words: transformers:NAME[,pretrained=true][,pool=cls].

    Args:
        text: The words.
        shape: The shape of the images.
        transform: The transform by which they are made.
        say: Function that prints a line, which is told what is assumed.

    Raises:
        InputError: There is no such model, it does not take the images, or an option is unknown.
    """
    name, given = options_of(text, {"pretrained": "false", "pool": "mean"})
    pretrained = given["pretrained"] == "true"
    config = config_of(library(), name, pretrained=pretrained, what=MODEL)
    if not pretrained:
        fit(config, shape)
        return Vision(text, fresh_model(config, name), eye_of(name, shape), given["pool"])
    eye = eye_of(name, shape, getattr(config, "num_channels", 3), side_of(config))
    eye.see(transform, say)
    return Vision(text, pretrained_model(name), eye, given["pool"])


def vision_built(name: str, shape: Shape, facts: Mapping[str, Any], transform: Transform) -> Vision:
    """The encoder of which these are the `facts`, before its weights are read.

    Args:
        name: The words by which it was built.
        shape: The shape of the images.
        facts: Its facts.
        transform: The transform by which images are made, for those that are whitened.
    """
    eye = eye_of(name, shape, facts["channels"], facts["side"])
    if "preprocessing" in facts:
        plain = Transform(tuple(facts["mean"]), tuple(facts["std"])) if "mean" in facts else transform
        eye.see_as(plain, Preprocessing.from_json(facts["preprocessing"]))
    return Vision(name, fresh_model(config_from(facts["config"]), name), eye, facts["pool"])


def eye_of(name: str, shape: Shape, channels: int | None = None, side: int | None = None) -> Seeing:
    """How a model is given images."""
    eye = Seeing()
    eye.name, eye.shape, eye.channels, eye.side = name, shape, channels or shape[0], side
    return eye
