"""The field's networks, built from a description in words and redrawn in place; features of any network by hooks."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import chain
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from attar.core.errors import InputError, shortened, unknown
from attar.core.seeds import derived_seed
from attar.core.settings import Range, Settings, words
from attar.images.networks.blocks import Network, Norm, Shape, draw_uniform_
from attar.images.networks.classics import VGG11, AlexNet, LeNet, ResNet18, ViT
from attar.images.networks.convnet import MLP, ConvNet
from attar.images.networks.mobile import MOBILES, MobileNetV1
from attar.images.networks.resnets import IMAGENET_RESNETS, RESNETS
from attar.images.networks.vgg import VGGS

BENCHMARK: dict[str, Callable[[Shape, int], Network]] = {**RESNETS, **VGGS, **MOBILES}
"""Networks of CIFAR-100's distillation benchmark (Tian, Krishnan and Isola, ICLR 2020, arXiv:1910.10699), by name."""
PATCH = 16
IMAGENET: dict[str, Callable[[Shape, int], Network]] = {
    **IMAGENET_RESNETS,
    "mobilenetv1": MobileNetV1,
    "vit_s16": partial(ViT, width=384, depth=12, heads=6, widening=4, patch=PATCH, eps=1e-6),
    "vit_b16": partial(ViT, width=768, depth=12, heads=12, widening=4, patch=PATCH, eps=1e-6),
}
"""Networks of the distillation papers' ImageNet tables, by name."""
TABLES = {**BENCHMARK, **IMAGENET}
NORMED = [name for name in TABLES if not name.startswith("vit")]
"""Names of networks with batch norm and ReLU."""
SMALLEST = {"vit_s16": PATCH, "vit_b16": PATCH}
"""Smallest image side, in pixels, of networks of the tables, if it is not 8."""
NETWORKS = ("convnet", "mlp", "alexnet", "vgg11", "resnet18", "resnet18-ap", "lenet", "vit", *TABLES)
DEFAULT_WIDTH = {"convnet": 128, "mlp": 128, "resnet18": 64, "resnet18-ap": 64, "vit": 192}
"""Default widths of the networks whose width can be chosen."""
DEFAULT_NORM: dict[str, Norm] = {
    "convnet": "instance",
    "alexnet": "none",
    "vgg11": "instance",
    "resnet18": "instance",
    "resnet18-ap": "instance",
    **dict.fromkeys(NORMED, "batch"),
}
"""Default norms of the networks whose norm can be chosen."""


@dataclass(frozen=True, kw_only=True)
class Architecture(Settings):
    """Settings of a network of the field, by name.

    If a set is condensed with batch norm, the images of all classes must be in one batch, so memory grows with the
    number of classes. With other norms images are processed in small portions.
    """

    network: str = "convnet"
    """The network, by words: convnet, mlp (two hidden layers), alexnet, vgg11, resnet18, resnet18-ap, lenet, vit; or
    one of the distillation papers' tables, such as resnet8x4, wrn40_2 or vit_s16 (see the page on distillation)."""
    norm: Literal["auto", "none", "batch", "layer", "instance", "group"] = "auto"
    """Normalisation. auto: instance in convnet, vgg11 and resnet18, none in alexnet. instance is group norm with one
    channel per group, group has four groups. Networks of the tables have batch only."""
    width: Annotated[int, Range(1)] | None = None
    """Width of the network: filters per convolution, units per hidden layer, or features. Default: that of papers
    (convnet and mlp: 128)."""
    depth: Annotated[int, Range(1, 12)] | None = None
    """Depth of the network: number of blocks of convnet or vit, or of hidden layers of mlp. Default: 2 for mlp, for
    convnet by image side, 2 up to 16 pixels, 3 at 32, 4 at 64, 5 at 128."""
    activation: Literal["relu", "leakyrelu", "sigmoid", "swish"] = "relu"
    """Activation function. The ViT has its own; networks of the tables have relu only."""
    pooling: Literal["avg", "max", "none"] = "avg"
    """Pooling of features, 2×2, after each block of the ConvNet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = self.network
        if name not in NETWORKS:
            raise _with_options(name) if name.partition(":")[0] in NETWORKS else unknown("network", name, NETWORKS)
        if name in NORMED and self.norm not in ("auto", "batch"):
            raise InputError(f"norm is {self.norm}, but {name} has batch norm only; do not set it.")
        if name in NORMED and self.activation != "relu":
            raise InputError(f"activation is {self.activation}, but {name} has ReLU only; do not set it.")
        if name == "mlp" and self.norm not in ("auto", "none", "batch"):
            raise InputError(f"norm is {self.norm}, but mlp has batch norm or none; do not set it.")
        if name not in (*DEFAULT_NORM, "mlp") and self.norm not in ("auto", "none"):
            raise InputError(f"norm is {self.norm}, but the norm of {name} cannot be chosen; do not set it.")
        if name not in DEFAULT_WIDTH and self.width is not None:
            raise InputError(f"width is {self.width}, but {name} has only one width; do not set it.")
        if name not in ("convnet", "mlp", "vit") and self.depth is not None:
            raise InputError(f"depth is {self.depth}, but {name} has only one depth; do not set it.")
        if name != "convnet" and self.pooling != "avg":
            raise InputError(f"pooling is {self.pooling}, but it can be chosen for convnet only; do not set it.")

    def resolve(self, shape: Shape) -> "Architecture":
        """The same settings with norm, width and depth filled in."""
        depths = {"convnet": max(2, round(math.log2(min(shape[1:]))) - 2), "vit": 6}
        return replace(
            self,
            norm=DEFAULT_NORM.get(self.network, "none") if self.norm == "auto" else self.norm,
            width=self.width or DEFAULT_WIDTH.get(self.network),
            depth=self.depth or depths.get(self.network),
        )

    def build(self, shape: Shape, classes: int, generator: torch.Generator) -> Network:
        """A network with fresh parameters for images of this shape `(channels, height, width)`.

        Raises:
            InputError: The images are too small for the network.
        """
        with torch.random.fork_rng(devices=[]):
            network = self.resolve(shape)._build(shape, classes)
        redraw_(network, generator)
        return network

    def outline(self, shape: Shape, classes: int) -> Network:
        """The same network without memory for its parameters, to see its tensors by name and shape.

        Raises:
            InputError: The images are too small for the network.
        """
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return self.resolve(shape)._build(shape, classes)

    def _build(self, shape: Shape, classes: int) -> Network:
        norm, width, depth, activation = self.norm, self.width or 0, self.depth or 0, self.activation
        assert norm != "auto"
        if self.network in TABLES:
            smallest = SMALLEST.get(self.network, 8)
            if min(shape[1:]) < smallest:
                size = f"{shape[2]}×{shape[1]}"
                raise InputError(f"{self.network} needs images of at least {smallest}×{smallest}; these are {size}.")
            return TABLES[self.network](shape, classes)
        makers: dict[str, Callable[[], Network]] = {
            "convnet": lambda: ConvNet(
                shape, classes, width=width, depth=depth, norm=norm, activation=activation, pooling=self.pooling
            ),
            "mlp": lambda: MLP(
                shape,
                classes,
                width=width,
                depth=depth or 2,
                activation=activation,
                norm="batch" if norm == "batch" else "none",
            ),
            "alexnet": lambda: AlexNet(shape, classes, norm=norm, activation=activation),
            "vgg11": lambda: VGG11(shape, classes, norm=norm, activation=activation),
            "resnet18": lambda: ResNet18(shape, classes, width=width, norm=norm, activation=activation, pooled=False),
            "resnet18-ap": lambda: ResNet18(shape, classes, width=width, norm=norm, activation=activation, pooled=True),
            "lenet": lambda: LeNet(shape, classes, activation=activation),
            "vit": lambda: ViT(shape, classes, width=width, depth=depth),
        }
        return makers[self.network]()


def _with_options(text: str) -> InputError:
    """The refusal of `convnet:width=64` where the name stands alone, and its options beside it."""
    name, given = words(text)
    known = [field.name for field in fields(Architecture) if field.name != "network"]
    for key in given:
        if key not in known:
            return unknown(f"option of {name}", key, known)
    return InputError(
        f"network is {shortened(text)!r}; give {name!r} alone. {', '.join(given) or 'width'} is a setting of its own."
    )


def parse(text: str) -> Architecture:
    """An architecture from words such as `convnet` or `convnet:norm=batch,width=64`.

    Raises:
        InputError: The network, an option or a value is unknown.
    """
    name, given = words(text)
    options: dict[str, str | int] = {}
    known = [field.name for field in fields(Architecture) if field.name != "network"]
    for key, value in given.items():
        if key not in known:
            raise unknown(f"option of {name}", key, known)
        try:
            options[key] = int(value) if key in ("width", "depth") else value
        except ValueError:
            raise InputError(f"{key} is {value!r}; it must be a whole number.") from None
    return Architecture.from_json({"network": name, **options})


@torch.no_grad()
def redraw_(network: nn.Module, generator: torch.Generator) -> None:
    """Redraw every parameter in place: U(±1/√fan_in) as PyTorch does, or as the network defines; norms one and zero.

    This is done in place, so that addresses stay the same for compiled code. Building modules would also cost more.
    """
    draw_ = network.draw_layer_ if isinstance(network, Network) else draw_uniform_
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            draw_(module, generator)
        elif isinstance(module, (nn.GroupNorm, nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)):
            module.weight.fill_(1)
            module.bias.fill_(0)
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.reset_running_stats()
        elif isinstance(module, Network):
            module.redraw_own_(generator)
        elif next(module.parameters(recurse=False), None) is not None:
            raise TypeError(f"a {type(module).__name__} cannot be redrawn; give a function that builds the network")


def mixes_images(network: nn.Module) -> bool:
    """Whether one image's features depend on the others in the batch, as with batch normalisation in training."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def norms_of(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch-norm layers of a network with running statistics, in the order of its modules."""
    layers = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [layer for layer in layers if layer.running_mean is not None]


Factory = Callable[[Shape, int], nn.Module]


def from_factory(factory: Factory, shape: Shape, classes: int, seed: int) -> nn.Module:
    """A user's own network, `factory(shape, classes)`. Its initialisation is seeded; the global seed is kept."""
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
        InputError: The network does not have a module of a name.
    """
    modules = dict(network.named_modules())
    outputs: dict[str, Tensor] = {}
    for name in names:
        if name not in modules:
            raise unknown("module", name, [known for known in modules if known])

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        # A copy, because a following in-place activation would overwrite the output.
        return lambda module, inputs, output: outputs.__setitem__(name, output.clone())

    handles = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def parameter_count(network: nn.Module) -> int:
    """The number of parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def device_of(network: nn.Module) -> torch.device:
    """Where a network is: the device of its first parameter or buffer, or else the CPU."""
    tensors = chain(network.parameters(), network.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """A network in evaluation mode. The mode of each of its modules is restored afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def multiply_adds(network: nn.Module, shape: Shape) -> int:
    """The number of multiply-adds in convolutions and linear layers for the forward pass of one image."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, (nn.Conv2d, nn.Linear))
        outputs = module.out_channels if isinstance(module, nn.Conv2d) else module.out_features
        total += module.weight.numel() * output[0].numel() // outputs

    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad(), evaluating(network):
        network(torch.zeros(1, *shape, device=device_of(network)))
    for handle in handles:
        handle.remove()
    return total
