"""Encoders: attar's networks and those of `transformers` without their classifiers, an MLP for tables, any module."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings, words
from attar.embeddings.sources import Inputs, Rows, Source
from attar.images import layout
from attar.images.networks.architecture import parse, redraw_
from attar.images.networks.blocks import Network

Say = Callable[[str], None]
Features = Float[Tensor, "sample embedding"]
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
    """A network of attar without its classifier: the mean over the places of its last map, or its embedding."""

    def __init__(self, network: Network, name: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        network.classifier = nn.Identity()
        self.network, self.name = network, name
        with torch.no_grad():
            network.eval()
            self.width = self(torch.zeros(1, *shape)).shape[1]
            network.train()

    def forward(self, samples: Inputs) -> Features:
        """The features of images."""
        maps, embedding = self.network.features(samples)
        return maps[-1].mean(dim=(2, 3)) if maps and maps[-1].ndim == 4 else embedding


@dataclass(frozen=True, kw_only=True)
class Perceptron(Settings):
    """Settings of the MLP for tables, as words: mlp:width=256,depth=2,features=128."""

    width: Annotated[int, Range(1)] = 256
    """Units of a hidden layer."""
    depth: Annotated[int, Range(0)] = 2
    """Number of hidden layers."""
    features: Annotated[int, Range(1)] = 128
    """Number of features."""


class MLP(Encoder):
    """Hidden layers with ReLU for rows of numbers, and a last linear layer."""

    def __init__(self, inputs: int, how: Perceptron, name: str) -> None:
        super().__init__()
        sizes = [inputs, *[how.width] * how.depth]
        hidden = [layer for a, b in zip(sizes, sizes[1:], strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(sizes[-1], how.features))
        self.name, self.width = name, how.features

    def forward(self, samples: Inputs) -> Features:
        """The features of rows."""
        return self.layers(samples)


class Own(Encoder):
    """A module of the caller's own, whose output has a row for each sample."""

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module = module
        with torch.no_grad():
            training = module.training
            found = module.eval()(torch.zeros(2, *shape))
            module.train(training)
        if not isinstance(found, Tensor) or found.ndim != 2:
            told = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"the module returns {told}; give one whose output has shape [sample, features].")
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
    """A fresh encoder for the samples of a source, or the caller's own.

    Raises:
        InputError: There is no network of that name, or it does not take the samples.
    """
    if isinstance(source, WithModule) and source.module is not None:
        return Own(source.module, source.shape)
    name = ("mlp" if source.tabular else "convnet:norm=batch,width=64") if text == "auto" else text
    return _built(name, source.shape, generator)


def encoder_built(
    name: str | None, shape: tuple[int, ...], seen: Any, normalise: Any, build: Any, folder: Path
) -> Encoder:
    """The encoder whose weights lie in a folder, before they are read."""
    if build is not None:
        return Own(build(), shape)
    if name is None:
        raise InputError(
            f"the encoder in {folder} is a module of its maker's own. Give build=, a function that makes the module."
        )
    return _built(name, shape, torch.Generator())


def _built(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Encoder:
    if len(shape) == 1:
        head, given = words(name)
        if head != "mlp":
            raise InputError(f"encoder is {name!r}, but the samples are rows of numbers. Give mlp:width=256.")
        how = Perceptron.from_json({key: int(value) if value.isdigit() else value for key, value in given.items()})
        with torch.random.fork_rng(devices=[]):
            made = MLP(shape[0], how, name)
        redraw_(made, generator)
        return made
    channels, height, width = shape
    return Pooled(parse(name).build((channels, height, width), 1, generator), name, shape)


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
