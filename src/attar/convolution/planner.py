"""Select the method of every convolution of a network by timing all methods on images that pass through the network.

In the paper's offline selection, each layer uses the method that is fastest on calibration images. Here the choice is
confirmed on held-out images, in pairs with PyTorch's convolution in the better of its two layouts. A layer is switched
only if the whole interval of the ratio is above the margin. Layouts change around a switched layer, and the layer's own
time does not include that. So switches are withdrawn, the smallest gain first, until the interval of the whole
network's ratio is above 1. Pointwise layers need no lowering and stay dense.
Amer, Salamah, Sajedi and Yang, arXiv:2104.08314.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.convolution.artefact import ConvolutionPlan, LayerChoice, WholeNetwork
from attar.convolution.dense import FORMATS, Dense
from attar.convolution.geometry import Geometry
from attar.convolution.interface import Convolution
from attar.convolution.methods import method_named
from attar.convolution.planned import copied, unfit, with_methods
from attar.convolution.timing import Median, machine, ratio, seconds_in_turns
from attar.core.errors import InputError, reason_of

RIVALS = ("packed", "im2col", "mec", "cpo", "cps", "direct")
"""Methods that are timed against PyTorch's convolution by default."""
LAYOUTS_OF = {"channels-last": tuple(FORMATS), "nchw": ("nchw",)}
"""Layouts in which a network is timed, by the layout of its planned copy."""
TOLERANCE = 1e-3
"""Largest difference from PyTorch's convolution, divided by the largest output, with which a method may be chosen."""

Images = Float[Tensor, "image channel height width"]
Say = Callable[[str], None]


@dataclass
class Planner:
    """The settings of the measurement, and the measurements so far."""

    methods: Sequence[str] = RIVALS
    batch: int = 1
    runs: int = 31
    margin: float = 0.05
    say: Say = lambda line: None
    seen: dict[Any, LayerChoice] = field(default_factory=dict)
    """Measured layers by geometry, shape and mean density in per cent. Equal layers are measured once."""
    said: set[str] = field(default_factory=set)
    """Notes about backends that were printed already."""

    @torch.inference_mode()
    def layer(self, name: str, network: nn.Module, layer: nn.Conv2d, images: Tensor, held_out: Tensor) -> LayerChoice:
        """Measure one layer and choose its method."""
        calls = _inputs(network, layer, images[: self.batch])
        excuse = _excuse(layer, calls)
        inputs = calls if excuse else self._batches(network, layer, images)
        density = _density(inputs)
        excuse = excuse or _no_zeros(inputs, density)
        if excuse:
            return LayerChoice.dense(name, layer, _shape(calls), density, excuse)
        key = (Geometry.of_layer(layer), _shape(inputs), layer.bias is None, round(100 * density))
        if key not in self.seen:
            self.seen[key] = self._measure(name, layer, inputs, self._batches(network, layer, held_out))
        return self.seen[key].called(name, density)

    def _batches(self, network: nn.Module, layer: nn.Conv2d, images: Images) -> list[Tensor]:
        """The inputs of the layer for each batch of images. A smaller last batch is not used."""
        whole = len(images) // self.batch * self.batch
        return [call for part in images[:whole].split(self.batch) for call in _inputs(network, layer, part)]

    def _measure(self, name: str, layer: nn.Conv2d, inputs: list[Tensor], others: list[Tensor]) -> LayerChoice:
        given = (layer.weight, layer.bias, Geometry.of_layer(layer))
        dense: dict[str, Convolution] = {f"dense, {layout}": Dense.prepare(*given, layout=layout) for layout in FORMATS}
        rivals = {method: method_named(method).prepare(*given) for method in self.methods}
        self._say_backends(rivals)
        wanted = dense["dense, nchw"](inputs[0])
        worst = {method: _difference(rival(inputs[0]), wanted) for method, rival in rivals.items()}
        allowed = TOLERANCE * float(wanted.abs().max())
        trusted = {method: rival for method, rival in rivals.items() if worst[method] <= allowed}
        medians = _milliseconds(self._seconds({**dense, **trusted}, inputs))
        held = {method: rival.bytes(inputs[0]) for method, rival in rivals.items()}
        counted = {method: rival.counted_bytes(inputs[0]) // self.batch for method, rival in rivals.items()}
        facts = (name, layer, _shape(inputs), _density(inputs))
        if not trusted:
            return LayerChoice.dense(*facts, "no method gives its output", medians, held, counted)
        usual, best = (min(some, key=lambda method: medians[method].value) for some in (dense, trusted))
        again = self._seconds({"dense": dense[usual], "best": trusted[best]}, others)
        gain = ratio(again["dense"], again["best"])
        if gain.low > 1 + self.margin:
            return LayerChoice.switched(*facts, best, gain, worst[best], medians, held, counted)
        verdict = "no method is faster" if gain.value <= 1 else f"{best} may gain less than {100 * self.margin:g} %"
        return LayerChoice.dense(*facts, verdict, medians, held, counted, gain)

    def _seconds(self, methods: dict[str, Convolution], inputs: list[Tensor]) -> dict[str, list[float]]:
        """Time the methods in turns. Sparse methods get activations channels last, as in the planned network."""
        ordered = {layout: [x.contiguous(memory_format=form) for x in inputs] for layout, form in FORMATS.items()}

        def call(method: Convolution) -> Callable[[int], Tensor]:
            maps = ordered[method.layout]
            return lambda run: method(maps[run % len(maps)])

        return seconds_in_turns({name: call(method) for name, method in methods.items()}, self.runs)

    def _say_backends(self, methods: dict[str, Convolution]) -> None:
        notes = {method.note for method in methods.values()}
        for note in sorted(notes - self.said - {""}):
            self.say(note)
        self.said |= notes


@torch.no_grad()
def plan(
    network: nn.Module,
    images: Tensor,
    *,
    held_out: Tensor | None = None,
    methods: Sequence[str] = RIVALS,
    batch: int = 1,
    runs: int = 31,
    margin: float = 0.05,
    say: Say = lambda line: None,
) -> tuple[nn.Module, ConvolutionPlan]:
    """Plan a network: measure its convolutions, switch those that gain, and compare the result with the network.

    Switches are withdrawn one by one, until the interval of the whole network's ratio is above 1.

    Args:
        network: Any module with `nn.Conv2d` layers that takes images, on the CPU. It is not changed.
        images: Calibration images as network input, `[image, channel, height, width]`.
        held_out: Images on which choices are confirmed and the whole is compared. Default: every second calibration
            image.
        methods: Methods that are timed against PyTorch's convolution.
        batch: Number of images of a call.
        runs: Number of times that everything is timed. Fewer than 30 are refused.
        margin: Gain in speed, as a share, above which a layer's whole interval must lie.
        say: A function that is called with each line of progress.

    Returns:
        A copy of the network for inference, and its plan.

    Raises:
        InputError: There are no images or no convolutions, a method is unknown, or settings are out of range.
    """
    images, held_out = (images[::2], images[1::2]) if held_out is None else (images, held_out)
    check(images, held_out, methods, batch, runs)
    network = copied(network).eval()
    _check_takes(network, images[:1])
    planner, choices = Planner(methods, batch, runs, margin, say), []
    for name, layer in convolutions(network).items():
        choices.append(planner.layer(name, network, layer, images, held_out))
        say(choices[-1].line())
    planned, whole = confirmed(network, choices, held_out, batch, runs, say)
    settings = {"methods": list(methods), "batch": batch, "runs": runs, "margin": margin}
    return planned, ConvolutionPlan(tuple(choices), whole, settings, machine(), weights_of(network))


def layout_of(network: nn.Module, images: Images) -> str:
    """The layout between the layers of a planned copy: channels last, unless the network cannot run in it.

    A network that calls `view` after a convolution cannot, because the output's rows are not whole in memory.
    """
    try:
        _laid_out(network, FORMATS["channels-last"])(images.contiguous(memory_format=FORMATS["channels-last"]))
    except RuntimeError:
        return "nchw"
    return "channels-last"


def convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions of a network by name.

    Raises:
        InputError: The network has no convolution.
    """
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    if not layers:
        raise InputError("the network has no convolution (nn.Conv2d) to plan. Give a network with at least one.")
    return layers


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's parameters and buffers."""
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def confirmed(
    network: nn.Module, choices: list[LayerChoice], held_out: Images, batch: int, runs: int, say: Say
) -> tuple[nn.Module, WholeNetwork]:
    """The planned copy, after withdrawing (in `choices`) switches until the whole ratio's interval is above 1."""
    layout = layout_of(network, held_out[:batch])
    while True:
        switched = {choice.name: choice for choice in choices if choice.method != "dense"}
        methods = {name: choice.method for name, choice in switched.items()}
        planned = with_methods(network, methods, layout=layout)
        whole = compare(network, planned, held_out, batch=batch, runs=runs, layouts=LAYOUTS_OF[layout])
        if not switched or whole.ratio.low > 1:
            return planned, whole
        weakest = min(switched.values(), key=lambda choice: choice.saved)
        choices[choices.index(weakest)] = withdrawn = weakest.withdrawn()
        say(withdrawn.line())


@torch.inference_mode()
def compare(
    network: nn.Module,
    planned: nn.Module,
    images: Images,
    *,
    batch: int = 1,
    runs: int = 31,
    layouts: Sequence[str] = tuple(FORMATS),
) -> WholeNetwork:
    """Compare outputs and times of a network, in the better of PyTorch's layouts, and of its planned copy.

    Args:
        network: The network. Its output may be a tensor, or tensors in lists, tuples, mappings and dataclasses; all of
            them are compared, and the first one holds the predictions.
        planned: The planned copy. It is timed in the last of the layouts.
        images: Images.
        batch: Number of images of a call.
        runs: Number of times that everything is timed.
        layouts: Layouts in which the network can run.

    Raises:
        InputError: The output has no tensor, or the two outputs have different ones.
    """
    parts = images.split(batch)
    wanted, made = ([leaves(run(part)) for part in parts] for run in (network, planned))
    pairs = [pair for one, other in zip(wanted, made, strict=True) for pair in zip(one, other, strict=True)]
    full = [part for part in parts if len(part) == batch]

    def call(module: nn.Module, layout: str) -> Callable[[int], Any]:
        ordered = [part.contiguous(memory_format=FORMATS[layout]) for part in full]
        return lambda run: module(ordered[run % len(ordered)])

    calls = {layout: call(_laid_out(network, FORMATS[layout]), layout) for layout in layouts}
    seconds = seconds_in_turns({**calls, "planned": call(planned, layouts[-1])}, runs)
    medians = _milliseconds(seconds)
    layout = min(calls, key=lambda name: medians[name].value)
    return WholeNetwork(
        images=len(images),
        batch=batch,
        difference=max(_difference(one, other) for one, other in pairs),
        largest=max(float(one.abs().max()) for one, _ in pairs if one.numel()),
        agreeing=sum(_agreeing(one[0], other[0]) for one, other in zip(wanted, made, strict=True)),
        layout=layout,
        dense=medians[layout],
        planned=medians["planned"],
        ratio=ratio(seconds[layout], seconds["planned"]),
        planned_layout=layouts[-1],
    )


def leaves(output: Any) -> list[Tensor]:
    """The tensors of numbers in an output of any structure, in its order.

    Raises:
        InputError: There is none.
    """
    found = list(_leaves(output))
    if not found:
        raise InputError(f"the network returns {type(output).__name__} without a tensor. There is nothing to compare.")
    return found


def _leaves(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.numel():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _leaves(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _leaves(value)
    elif is_dataclass(output):
        for one in fields(output):
            yield from _leaves(getattr(output, one.name))


def _agreeing(one: Tensor, other: Tensor) -> int:
    """The number of images of a batch for which two outputs predict the same class."""
    first, second = (made.reshape(len(made), -1).argmax(dim=1) if made.ndim else made for made in (one, other))
    return int((first == second).sum())


def check(images: Tensor, held_out: Tensor, methods: Sequence[str], batch: int, runs: int) -> None:
    """Refuse images and settings with which nothing can be timed.

    Raises:
        InputError: There are too few images, their type is wrong, or settings are out of range.
    """
    for method in methods:
        method_named(method)
    for some in (images, held_out):
        if some.ndim != 4 or some.dtype != torch.float32:
            kind = str(some.dtype).removeprefix("torch.")
            raise InputError(f"the images are {kind} with {some.ndim} axes; they must be float32 with four.")
    if batch < 1 or runs < 30:
        raise InputError(f"batch is {batch} and runs {runs}; they must be at least 1 and 30.")
    fewest = min(len(images), len(held_out))
    if fewest < batch:
        raise InputError(f"{fewest} images to choose or to confirm on are fewer than a batch of {batch}. Give more.")
    if not methods or "dense" in methods:
        raise InputError("methods are timed against dense, so they must not be empty or include dense.")


@torch.no_grad()
def _check_takes(network: nn.Module, image: Tensor) -> None:
    """Check that a network takes an image.

    Raises:
        InputError: It does not.
    """
    try:
        network(image)
    except (RuntimeError, ValueError, TypeError) as error:
        shape = tuple(image.shape[1:])
        raise InputError(f"the network does not take images of shape {shape} ({reason_of(error)}).") from None


def _excuse(layer: nn.Conv2d, calls: list[Tensor]) -> str:
    """The reason why a layer stays dense with any input; empty if there is none."""
    reasons = {
        "it is pointwise: there is nothing to lower": layer.kernel_size == (1, 1),
        unfit(layer): bool(unfit(layer)),
        f"it is a {type(layer).__name__}, not a plain Conv2d": type(layer) is not nn.Conv2d,
        "it has hooks": bool(layer._forward_hooks or layer._forward_pre_hooks),
        "its padding differs from side to side": layer.padding == "same" and any(k % 2 == 0 for k in layer.kernel_size),
        "no image reaches it": not calls,
        "it is called on maps of several sizes": len({call.shape for call in calls}) > 1,
        "its weights or its input are not float32": any(
            tensor.dtype != torch.float32 for tensor in (layer.weight, *calls)
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _inputs(network: nn.Module, layer: nn.Conv2d, images: Images) -> list[Tensor]:
    """The inputs of one layer in a pass of these images through the network."""
    with _recorded(layer) as calls:
        network(images)
    return calls


@contextmanager
def _recorded(layer: nn.Conv2d) -> Iterator[list[Tensor]]:
    calls: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, given: calls.append(given[0].detach().clone()))
    try:
        yield calls
    finally:
        hook.remove()


def _no_zeros(inputs: list[Tensor], density: float) -> str:
    """The reason why a layer's input has no zeros of a ReLU; empty if it may have some."""
    if min(float(x.min()) for x in inputs) < 0:
        return "it is not fed by a ReLU: its input has negative values"
    return "its input has no zeros" if density == 1 else ""


def _shape(inputs: list[Tensor]) -> tuple[int, ...]:
    """Channels, height and width of a layer's input; empty if no image reaches the layer."""
    return tuple(inputs[0].shape[1:]) if inputs else ()


@torch.inference_mode(False)  # ordinary parameters, as in the planned copy: inference tensors are a little faster
def _laid_out(network: nn.Module, form: torch.memory_format) -> nn.Module:
    return copy.deepcopy(network).to(memory_format=form)  # type: ignore[call-overload]


def _milliseconds(seconds: dict[str, list[float]]) -> dict[str, Median]:
    return {name: Median.of([1e3 * second for second in taken]) for name, taken in seconds.items()}


def _density(inputs: list[Tensor]) -> float:
    """Mean share of non-zeros."""
    total = sum(x.numel() for x in inputs)
    return sum(int(x.count_nonzero()) for x in inputs) / total if total else 0.0


def _difference(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        raise InputError(f"outputs of the shapes {list(one.shape)} and {list(other.shape)} cannot be compared.")
    return float((one.double() - other.double()).abs().max())
