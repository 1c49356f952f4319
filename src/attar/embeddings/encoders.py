"""Encoders: attar's networks and those of `transformers` without their classifiers, an MLP for tables, any module.

An encoder is named by words. `convnet:norm=batch,width=64`, `conv4`, `resnet12` and all networks of attar are fresh,
with the mean over places as their features, or all places with `pool=flat`. `transformers:FOLDER` is a fresh model of
that configuration, and one with its weights with `pretrained=true`. A folder in which attar has saved an encoder, a
student or a network is the start of the training, with its weights.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError, shortened, unknown
from attar.core.runtime import Runtime
from attar.core.seeds import seeded
from attar.core.settings import Range, Settings, words
from attar.core.training import in_float32
from attar.embeddings.networks import BACKBONES, Backbone, ResNet12
from attar.embeddings.sources import Inputs, Rows, Source
from attar.images import layout
from attar.images.data.whiten import Transform
from attar.images.networks.architecture import NETWORKS, parse
from attar.images.networks.blocks import Network, Shape, Staged, draw_uniform_
from attar.images.networks.classics import LeNet, ViT
from attar.images.networks.pretrained import PREFIX

Say = Callable[[str], None]
Features = Float[Tensor, "sample embedding"]
S = TypeVar("S", bound=Settings)
AUTO = "convnet:norm=batch,width=64"
"""The encoder of images, if none is named."""
SAVED = "attar:"
"""Before the folder of an encoder, a student or a network that attar has saved."""
AT_ONCE = 512
"""Samples of one pass without a gradient."""


class Encoder(nn.Module):
    """Any network as an encoder: one row of features for each sample."""

    name: str | None = None
    """The words by which it is built; None for a module of the caller's own."""
    width: int
    """Number of features."""

    @property
    def facts(self) -> dict[str, Any]:
        """What decides its features besides its parameters, in plain values."""
        return {}


class Pooled(Encoder):
    """A network of attar without its classifier.

    Args:
        network: The network.
        name: The words by which it is built.
        shape: The shape of the images.
        flat: Whether an embedding that is a flattened map is taken as it is. If not, the mean of the last map over its
            places is.
    """

    def __init__(self, network: Network, name: str, shape: tuple[int, ...], *, flat: bool = False) -> None:
        super().__init__()
        network.classifier = nn.Identity()
        self.network, self.name = network, name
        done = isinstance(network, (Staged, ViT, LeNet)) and not isinstance(network, ResNet12)
        self.mean = not (flat or done)
        training = network.training
        with torch.no_grad():
            network.eval()
            self.width = self(torch.zeros(1, *shape)).shape[1]
            network.train(training)

    def forward(self, samples: Inputs) -> Features:
        """The features of images."""
        maps, embedding = self.network.features(samples)
        return maps[-1].mean(dim=(2, 3)) if self.mean and maps and maps[-1].ndim == 4 else embedding


@dataclass(frozen=True, kw_only=True)
class Perceptron(Settings):
    """Settings of the MLP for tables, as words: mlp:width=256,depth=2,features=128."""

    width: Annotated[int, Range(1)] = 256
    """Units of a hidden layer."""
    depth: Annotated[int, Range(0)] = 2
    """Number of hidden layers."""
    features: Annotated[int, Range(1)] = 128
    """Number of features."""
    norm: Literal["none", "batch", "layer"] = "none"
    """Normalisation of hidden layers."""
    dropout: Annotated[float, Range(0, 0.9)] = 0.0
    """Share of hidden units that are dropped while training."""


class MLP(Encoder):
    """Hidden layers with ReLU for rows of numbers, and a last linear layer."""

    def __init__(self, inputs: int, how: Perceptron, name: str) -> None:
        super().__init__()
        sizes = [inputs, *[how.width] * how.depth]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after)]
            if how.norm != "none":
                layers.append(nn.BatchNorm1d(after) if how.norm == "batch" else nn.LayerNorm(after))
            layers += [nn.ReLU(), nn.Dropout(how.dropout)] if how.dropout else [nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], how.features))
        self.name, self.width = name, how.features

    def forward(self, samples: Inputs) -> Features:
        """The features of rows."""
        return self.layers(samples)


class Adapted(Encoder):
    """An encoder that was trained on samples normalised in one way, for samples that are normalised in another.

    Args:
        encoder: The encoder.
        scale: Factor of each channel or feature.
        offset: What is added then.
    """

    def __init__(self, encoder: Encoder, scale: Sequence[float], offset: Sequence[float]) -> None:
        super().__init__()
        self.encoder, self.name, self.width = encoder, encoder.name, encoder.width
        self.scale, self.offset = tuple(scale), tuple(offset)

    @property
    def facts(self) -> dict[str, Any]:
        """Factors and offsets, and the facts of the encoder."""
        return {"scale": list(self.scale), "offset": list(self.offset), "of": self.encoder.facts}

    def forward(self, samples: Inputs) -> Features:
        """The features of samples."""
        form = (-1,) + (1,) * (samples.ndim - 2)
        scale, offset = (torch.tensor(one).to(samples).view(form) for one in (self.scale, self.offset))
        return self.encoder(samples * scale + offset)


class Own(Encoder):
    """A module of the caller's own, whose output has a row for each sample.

    Raises:
        InputError: It is no module, does not take the samples, or returns something else than rows of numbers.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise InputError(f"module is of type {type(module).__name__}; give a torch.nn.Module.")
        self.module = in_float32(module)
        if any(one.dtype == torch.float64 for one in module.parameters()):
            raise InputError("the module is in double precision; give module.float().")
        training = module.training
        try:
            with torch.no_grad():
                found = module.eval()(torch.zeros(2, *shape))
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as error:
            why = shortened(" ".join(str(error).split()))
            raise InputError(f"the module does not take samples of shape {tuple(shape)}: {why}") from error
        module.train(training)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2 or not found.shape[1]:
            told = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"of two samples the module returns {told}; its output must be [sample, features].")
        if not found.is_floating_point():
            raise InputError(f"the module returns {found.dtype}; give one that returns real numbers.")
        self.width = found.shape[1]

    def forward(self, samples: Inputs) -> Features:
        """The output of the module."""
        return self.module(samples)


@dataclass(frozen=True)
class WithModule(Source):
    """A source with a module of the caller's own as the encoder."""

    module: nn.Module | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def of(cls, source: Source, module: nn.Module) -> "WithModule":
        """The same source with the module."""
        return cls(**{f.name: getattr(source, f.name) for f in dataclasses.fields(source)}, module=module)


def encoder_named(text: str, source: Source, generator: torch.Generator, *, say: Say | None = None) -> Encoder:
    """An encoder for the samples of a source by words, or the caller's own module.

    Args:
        text: The words.
        source: The samples.
        generator: Draws the weights of a fresh encoder.
        say: Function that prints a line, which is told what is assumed of a model made elsewhere.

    Raises:
        InputError: There is no network of that name, or it does not take the samples.
    """
    if isinstance(source, WithModule) and source.module is not None:
        return Own(source.module, source.shape)
    if text == "auto":
        text = "mlp" if source.tabular else AUTO
    if (folder := _folder_in(text)) is not None:
        from attar.embeddings.starts import started

        return started(folder, source.shape, source.transform, source.name)
    if text.startswith(PREFIX) and not source.tabular:
        from attar.embeddings.foreign import vision_named

        assert isinstance(source.transform, Transform)
        with seeded(generator):
            return vision_named(text, _image_shape(source.shape), source.transform, say)
    return built(text, source.shape, generator)


def encoder_built(
    name: str | None, shape: tuple[int, ...], facts: Any, normalise: Any, build: Any, folder: Path
) -> Encoder:
    """The encoder whose weights lie in a folder, before they are read.

    Args:
        name: The words by which it was built; None for a module of the maker's own.
        shape: The shape of a sample.
        facts: Its facts.
        normalise: What makes network input of samples.
        build: A function that makes the module, if it is the caller's own.
        folder: The folder, for messages.

    Raises:
        InputError: Only its maker can build it.
    """
    if "scale" in facts:
        inner = encoder_built(name, shape, facts["of"], normalise, build, folder)
        return Adapted(inner, facts["scale"], facts["offset"])
    if build is not None:
        return Own(build(), shape)
    if name is None:
        raise InputError(
            f"the encoder in {folder} is a module of its maker's own. Give build=, a function that makes the module."
        )
    if name.startswith(PREFIX):
        from attar.embeddings.foreign import vision_built

        return vision_built(name, _image_shape(shape), facts, normalise)
    return built(name, shape, torch.Generator())


def built(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Encoder:
    """A fresh encoder of attar by words.

    Args:
        name: The words.
        shape: The shape of a sample.
        generator: Draws the weights.

    Raises:
        InputError: There is no network of that name, an option is unknown, or it does not take such samples.
    """
    head, given = words(name)
    if len(shape) == 1:
        if head != "mlp":
            raise InputError(f"encoder is {name!r}, but the samples are rows of numbers. Give mlp:width=256.")
        how = options(Perceptron, given)
        with torch.random.fork_rng(devices=[]):
            made = MLP(shape[0], how, name)
        for layer in made.layers:
            if isinstance(layer, nn.Linear):
                draw_uniform_(layer, generator)
        return made
    pool = given.pop("pool", "mean")
    if pool not in ("mean", "flat"):
        raise unknown("pool", pool, ["mean", "flat"])
    if head not in (*BACKBONES, *NETWORKS):
        raise unknown("encoder", head, [*BACKBONES, *NETWORKS, f"{PREFIX}FOLDER"])
    if head in BACKBONES:
        network = options(Backbone, given).build(head, _image_shape(shape), generator)
    else:
        rest = ",".join(f"{key}={value}" for key, value in given.items())
        network = parse(f"{head}:{rest}" if rest else head).build(_image_shape(shape), 1, generator)
    return Pooled(network, name, shape, flat=pool == "flat")


def options(family: type[S], given: Mapping[str, str]) -> S:
    """Settings from the options in words."""
    return family.from_json({key: _number(value) for key, value in given.items()})


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _image_shape(shape: tuple[int, ...]) -> Shape:
    channels, height, width = shape
    return channels, height, width


def _folder_in(text: str) -> Path | None:
    """The folder of a saved network that words name: attar:FOLDER, or a folder that is there."""
    if text.startswith(SAVED):
        return Path(text.removeprefix(SAVED)).expanduser()
    if words(text)[0] in (*NETWORKS, *BACKBONES, "transformers"):
        return None
    folder = Path(text).expanduser()
    return folder if folder.is_dir() else None


@torch.no_grad()
def features_of(
    encoder: nn.Module,
    source: Source,
    rows: Rows,
    runtime: Runtime,
    part: Literal["train", "test"] = "train",
) -> Features:
    """The features of samples without augmentation, on the device of the run, in single precision.

    Args:
        encoder: An encoder, which is run in evaluation mode; its mode is restored.
        source: The samples.
        rows: Their rows.
        runtime: The machine.
        part: Which of the samples.
    """
    training, parts = encoder.training, []
    encoder.eval()
    for some in rows.split(AT_ONCE):
        samples = source.inputs(some, runtime.device, part)
        parts.append(encoder(samples if source.tabular else layout.ordered(samples, runtime)).float())
    encoder.train(training)
    return torch.cat(parts)
