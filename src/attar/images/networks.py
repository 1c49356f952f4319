"""The field's networks, built from a few words and drawn anew in place; features of any other network by hooks."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal, get_type_hints

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError, unknown
from attar.core.seeds import derived_seed
from attar.core.settings import Range, Settings

Images = Float[Tensor, "batch channel height width"]
Logits = Float[Tensor, "batch classes"]
Embeddings = Float[Tensor, "batch features"]
Maps = Float[Tensor, "batch filters map_height map_width"]

NETWORKS = ("convnet", "mlp")


@dataclass(frozen=True, kw_only=True)
class Architecture(Settings):
    """A network of the field by name."""

    network: str = "convnet"
    """Network: convnet (blocks of 3×3 convolution, norm, activation, pooling) or mlp (two hidden layers)."""
    norm: Literal["none", "batch", "layer", "instance", "group"] = "instance"
    """Normalisation in the ConvNet (instance: group norm with one channel a group; group: four groups)."""
    width: Annotated[int, Range(1)] = 128
    """Filters per convolution, or units per hidden layer."""
    depth: Annotated[int, Range(1, 12)] | None = None
    """ConvNet blocks; by image side unless given: 2 up to 16 pixels, 3 at 32, 4 at 64, 5 at 128."""
    activation: Literal["relu", "leakyrelu", "sigmoid", "swish"] = "relu"
    """Activation."""
    pooling: Literal["avg", "max", "none"] = "avg"
    """Pooling after each block, 2×2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network not in NETWORKS:
            raise unknown("network", self.network, NETWORKS)

    def resolve(self, shape: tuple[int, int, int]) -> "Architecture":
        """The same with its depth filled in from the image shape."""
        from dataclasses import replace

        side = min(shape[1:])
        return replace(self, depth=self.depth or max(2, round(math.log2(side)) - 2))

    def build(self, shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> "ConvNet | MLP":
        """A network with fresh parameters for images of this shape `(channels, height, width)`."""
        with torch.random.fork_rng(devices=[]):
            network: ConvNet | MLP
            if self.network == "mlp":
                network = MLP(shape, classes, self.width, self.activation)
            else:
                network = ConvNet(shape, classes, self.resolve(shape))
        redraw_(network, generator)
        return network


def parse(text: str) -> Architecture:
    """An architecture in one word: `convnet`, `convnet:norm=batch,width=64`.

    Raises:
        InputError: An unknown network, option or value.
    """
    name, _, rest = text.partition(":")
    options: dict[str, str | int] = {}
    for item in filter(None, rest.split(",")):
        key, _, value = item.partition("=")
        if key == "network" or key not in get_type_hints(Architecture):
            raise unknown(f"option of {name}", key, [k for k in get_type_hints(Architecture) if k != "network"])
        try:
            options[key] = int(value) if key in ("width", "depth") else value
        except ValueError:
            raise InputError(f"{key} is {value!r}; it must be a whole number.") from None
    return Architecture.from_json({"network": name, **options})


class ConvNet(nn.Module):
    """The field's ConvNet: `depth` blocks of 3×3 convolution, norm, activation and 2×2 pooling, then a linear layer.

    One-channel images of 28×28 are padded to 32×32 in the first block, as in the field's code (which pads every
    one-channel image by two pixels more, whatever its size; at 8×8 that would add more border than picture).
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, settings: Architecture) -> None:
        super().__init__()
        channels, height, width = shape
        depth = settings.depth or 3
        self.blocks = nn.ModuleList()
        for block in range(depth):
            padding = 3 if block == 0 and (channels, height, width) == (1, 28, 28) else 1
            height, width = height + 2 * padding - 2, width + 2 * padding - 2
            filters = settings.width
            layers = [
                nn.Conv2d(channels, filters, 3, padding=padding),
                _norm(settings.norm, filters, height, width),
                _activation(settings.activation),
            ]
            self.blocks.append(nn.Sequential(*layers))
            channels = filters
            if settings.pooling != "none":
                height, width = height // 2, width // 2
        if min(height, width) < 1:
            raise InputError(
                f"depth {depth} is too deep for {shape[2]}×{shape[1]} images; the last map would be empty."
            )
        self.pool = {"avg": nn.AvgPool2d(2), "max": nn.MaxPool2d(2), "none": nn.Identity()}[settings.pooling]
        self.classifier = nn.Linear(channels * height * width, classes)

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The map after each block's activation, before pooling, and the flattened output of the last pooling."""
        maps, x = [], images
        for block in self.blocks:
            x = block(x)
            maps.append(x)
            x = self.pool(x)
        return maps, x.flatten(1)

    def embed(self, images: Images) -> Embeddings:
        """What the linear layer sees."""
        return self.features(images)[1]

    def forward(self, images: Images) -> Logits:
        """Logits."""
        return self.classifier(self.embed(images))


class MLP(nn.Module):
    """Two hidden layers on flattened pixels."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int, activation: str) -> None:
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(math.prod(shape), width), nn.Linear(width, width)])
        self.activation = _activation(activation)
        self.classifier = nn.Linear(width, classes)

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """No maps: an MLP sees nothing in a place."""
        return [], self.embed(images)

    def embed(self, images: Images) -> Embeddings:
        """What the last linear layer sees."""
        x = images.flatten(1)
        for layer in self.hidden:
            x = self.activation(layer(x))
        return x

    def forward(self, images: Images) -> Logits:
        """Logits."""
        return self.classifier(self.embed(images))


@torch.no_grad()
def redraw_(network: nn.Module, generator: torch.Generator) -> None:
    """Draw every parameter anew, in place, from PyTorch's default initialiser: U(±1/√fan_in), norms at one and zero.

    In place, because addresses stay the same for compiled code, and building modules costs more than filling them.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for parameter in module.parameters(recurse=False):
                # Drawn in the order of the indices: `uniform_` goes by memory, which channels last has in another.
                drawn = torch.empty_like(parameter, memory_format=torch.contiguous_format)
                parameter.copy_(drawn.uniform_(-bound, bound, generator=generator))
        elif isinstance(module, (nn.GroupNorm, nn.LayerNorm, nn.BatchNorm2d)):
            module.weight.fill_(1)
            module.bias.fill_(0)
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        elif next(module.parameters(recurse=False), None) is not None:
            raise TypeError(f"cannot draw a {type(module).__name__} anew; give a function that builds the network")


def mixes_images(network: nn.Module) -> bool:
    """Whether one image's features depend on the others in the batch, as with batch normalisation in training."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


Factory = Callable[[tuple[int, int, int], int], nn.Module]


def from_factory(factory: Factory, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """A user's own network, `factory(shape, classes)`, its initialisation seeded without touching the global seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed, "network"))
        network = factory(shape, classes)
    if not isinstance(network, nn.Module):
        raise InputError(f"{factory!r} returned a {type(network).__name__}, not a torch.nn.Module.")
    return network


@contextmanager
def captured(network: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of named modules of any network, by forward hooks: `{"layer1.0": tensor, ...}`.

    Raises:
        InputError: A name the network does not have.
    """
    modules = dict(network.named_modules())
    outputs: dict[str, Tensor] = {}
    for name in names:
        if name not in modules:
            raise unknown("module", name, [known for known in modules if known])

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        # A copy, because an in-place activation that follows would overwrite what the hook saw.
        return lambda module, inputs, output: outputs.__setitem__(name, output.clone())

    handles = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def parameter_count(network: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Multiply-adds of one image's forward pass, in convolutions and linear layers."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        places = output[0, 0].numel() if isinstance(module, nn.Conv2d) else 1
        assert isinstance(module, (nn.Conv2d, nn.Linear))
        total += module.weight.numel() * places

    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(count) for layer in layers]
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, *shape, device=next(network.parameters()).device))
    network.train(training)
    for handle in handles:
        handle.remove()
    return total


def _norm(name: str, filters: int, height: int, width: int) -> nn.Module:
    if name == "group" and filters % 4:
        raise InputError(f"group norm has 4 groups, which {filters} filters do not divide into; give a multiple of 4.")
    makers: dict[str, Callable[[], nn.Module]] = {
        "none": nn.Identity,
        "batch": lambda: nn.BatchNorm2d(filters),
        "layer": lambda: nn.LayerNorm([filters, height, width]),
        "instance": lambda: nn.GroupNorm(filters, filters),
        "group": lambda: nn.GroupNorm(4, filters),
    }
    return makers[name]()


def _activation(name: str) -> nn.Module:
    makers: dict[str, Callable[[], nn.Module]] = {
        "relu": nn.ReLU,
        "leakyrelu": lambda: nn.LeakyReLU(0.01),
        "sigmoid": nn.Sigmoid,
        "swish": nn.SiLU,
    }
    return makers[name]()
