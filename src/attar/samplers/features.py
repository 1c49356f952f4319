"""Frozen networks whose features samples are compared by: two small classifiers of the training samples, and points.

No network of others is needed. Each has a digest, which is printed with a score: a distance on other features is
another number. Without classes the same networks stay as they were drawn; points are compared as they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core import store
from attar.core.engine import Metrics
from attar.core.runtime import Runtime
from attar.core.seeds import Generators, seeded
from attar.core.settings import Hidden, Range, Settings
from attar.core.state import rebuilt
from attar.core.training import cached, next_rows, set_lr
from attar.samplers.sources import Samples, Source

Features = Float[Tensor, "sample width"]
Shape = tuple[int, ...]
Words = Literal["mlp", "convnet", "points"]
WIDTH, WIDER = 64, 128
"""Number of features, and of units of the layer before them."""
MOST_STEPS = 6000
"""Steps of a training, beyond which there are fewer epochs."""
AT_ONCE = 1024
"""Samples that a network sees at once."""
NAMES = {"mlp": "MLP", "convnet": "convnet", "points": "points"}
FILE = "judge.safetensors"


class Net(nn.Module):
    """A classifier whose features are those before its last layer."""

    def __init__(self, body: nn.Module, classes: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(WIDTH, max(classes, 1))

    def encoded(self, x: Samples) -> Features:
        """The features."""
        found: Tensor = self.body(x)
        return found

    def forward(self, x: Samples) -> Float[Tensor, "sample classes"]:
        """The logits."""
        found: Tensor = self.head(self.encoded(x))
        return found


def mlp(shape: Shape) -> nn.Module:
    """128 and 64 units."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(shape), WIDER), nn.ReLU(), nn.Linear(WIDER, WIDTH), nn.ReLU()
    )


def convnet(shape: Shape) -> nn.Module:
    """3×3 convolutions of 32 and 64 channels, each with pooling while the side is 4 or more, and 64 units."""
    layers: list[nn.Module] = []
    channels, sides, width = shape[0], list(shape[1:]), 32
    while not layers or min(sides) >= 4:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        if min(sides) >= 4:
            layers.append(nn.MaxPool2d(2))
            sides = [side // 2 for side in sides]
        channels, width = width, 64
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * math.prod(sides), WIDTH), nn.ReLU())


def network(words: Words, shape: Shape, classes: int, generator: torch.Generator) -> Net:
    """A network with fresh parameters."""
    with seeded(generator):
        return Net({"mlp": mlp, "convnet": convnet}[words](shape), classes)


@dataclass(frozen=True)
class Judge:
    """A frozen network."""

    words: Words
    shape: Shape
    classes: int
    """Number of classes that it was trained on; 0 of one that was not trained."""
    scale: float
    """What samples are divided by: 1 of images between -1 and 1."""
    network: Net | None
    """None of points, which are their own features."""

    @property
    def name(self) -> str:
        """What its columns are called."""
        return NAMES[self.words] if self.classes or self.network is None else f"random {NAMES[self.words]}"

    @property
    def digest(self) -> str:
        """A fingerprint of its parameters."""
        return store.digest_of(self.learned, [self.words, list(self.shape), self.classes, self.scale])

    @property
    def title(self) -> str:
        """Its name with the first digits of its digest."""
        return self.name if self.network is None else f"{self.name} {self.digest[:8]}"

    @property
    def learned(self) -> dict[str, Tensor]:
        """Its parameters."""
        return {} if self.network is None else dict(self.network.state_dict())

    @torch.no_grad()
    def features(self, samples: Samples, device: torch.device | None = None) -> Features:
        """Features in float64 on the CPU."""
        if self.network is None:
            return samples.double().flatten(1)
        net, where = self.network.to(device or "cpu"), device or torch.device("cpu")
        return torch.cat([net.encoded(part.to(where) / self.scale).cpu().double() for part in samples.split(AT_ONCE)])

    @torch.no_grad()
    def classified(self, features: Features) -> Int[Tensor, " sample"] | None:
        """The likeliest classes by its features; None without classes."""
        if self.network is None or not self.classes:
            return None
        return self.network.head.cpu()(features.float()).argmax(dim=1)

    def save(self, folder: Path) -> str:
        """Write it to a folder, and return the digest of the file."""
        plain = {"words": self.words, "shape": list(self.shape), "classes": self.classes, "scale": self.scale}
        return store.write_tensors(folder / FILE, self.learned, plain)

    def picture(self) -> None:
        """A network has no picture."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The file is missing or damaged.
        """
        tensors, plain = store.read_tensors(folder / FILE)
        shape = tuple(plain["shape"])
        net = network(plain["words"], shape, plain["classes"], Generators(0)("network"))
        net.load_state_dict(tensors)
        return cls(plain["words"], shape, plain["classes"], plain["scale"], net.eval().requires_grad_(False))


@dataclass
class Training:
    """A network in training."""

    network: Net
    optimizer: torch.optim.Optimizer
    order: Tensor
    done: int = 0
    source: Any = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class TrainJudge(Settings):
    """A classifier of the training samples: AdamW with a step size that falls to zero in a straight line."""

    network: Literal["mlp", "convnet"] = "mlp"
    """128 and 64 units, or convolutions with 64 units."""
    epochs: Annotated[int, Range(1)] = 30
    """Passes over the training data."""
    batch: Annotated[int, Range(1)] = 64
    """Batch size: samples per step."""
    lr: Annotated[float, Range(0)] = 2e-3
    """Step size (learning rate)."""
    samples: Annotated[int, Hidden()] = 0
    """Number of training samples; filled in from the data."""

    name = "train-judge"

    def resolve(self, source: Source, runtime: Runtime | None = None) -> Self:
        """Fill in the number of samples; fewer epochs where there are very many."""
        samples = len(source.train)
        epochs = min(self.epochs, max(1, MOST_STEPS * self.batch // samples))
        return replace(self, samples=samples, epochs=epochs)

    @property
    def total_steps(self) -> int:
        """Steps in all."""
        return self.epochs * math.ceil(self.samples / self.batch)

    def build(self, source: Source, runtime: Runtime) -> Training:
        """A network with random parameters."""
        net = network(self.network, source.shape, len(source.classes), runtime.generator("network"))
        net = net.to(runtime.device)
        optimizer = torch.optim.AdamW(net.parameters(), self.lr, fused=True)
        return Training(net, optimizer, torch.arange(self.samples), source=source)

    def step(self, state: Training, runtime: Runtime) -> Metrics:
        """One batch."""
        set_lr(state.optimizer, self.lr * (1 - state.done / self.total_steps))
        rows = next_rows(state.order, state.done, self.batch, runtime.generator("batches"))
        train = state.source.train
        logits = state.network(train[rows].to(runtime.device) / scale_of(state.source))
        loss = F.cross_entropy(logits, train.labels[rows].to(runtime.device))
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.done += 1
        return {"loss": loss.detach()}

    def result(self, state: Training, runtime: Runtime) -> Judge:
        """The network as it is now."""
        source = state.source
        fresh = network(self.network, source.shape, len(source.classes), Generators(0)("network"))
        fresh.load_state_dict({name: value.cpu() for name, value in state.network.state_dict().items()})
        frozen = fresh.eval().requires_grad_(False)
        return Judge(self.network, source.shape, len(source.classes), scale_of(source), frozen)

    def load(self, folder: Path) -> Judge:
        """Read a trained network."""
        return Judge.load(folder)


def scale_of(source: Source) -> float:
    """What samples are divided by before a network sees them: their spread, unless they are images."""
    return 1.0 if source.pictures else source.sigma_data


def judges_of(source: Source, runtime: Runtime, most: int = 2) -> list[Judge]:
    """The networks by which samples of a source are compared: from the cache, or trained now and kept there.

    The first is the usual one, and the second another opinion: close scores change their order between networks.

    Args:
        source: The samples.
        runtime: The machine; its seed plays no part.
        most: How many networks at most.
    """
    shape = source.shape
    if len(shape) == 1:
        return [Judge("points", shape, 0, 1.0, None)]
    names: Sequence[Literal["mlp", "convnet"]] = ("mlp", "convnet") if len(shape) == 3 else ("mlp",)
    if not source.classes:
        return [untrained(name, source) for name in reversed(names)][:most]
    zero = runtime.with_seed(0)
    return [
        cached(TrainJudge(network=name).resolve(source), source, zero, title=f"training a {NAMES[name]} for features")
        for name in names[:most]
    ]


def untrained(words: Literal["mlp", "convnet"], source: Source) -> Judge:
    """A network with the parameters that it was drawn with."""
    net = network(words, source.shape, 0, Generators(0)("network"))
    return Judge(words, source.shape, 0, scale_of(source), net.eval().requires_grad_(False))
