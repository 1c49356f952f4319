"""The planner as a method: `attar compress conv --data DATA --network NETWORK`.

Use it for a ReLU network that runs on CPUs and has to become faster without a change of its function. It pays if maps
are small or mostly zero. The plan says by how much, which layers stay dense, and why.
Amer, Salamah, Sajedi and Yang, High Performance Convolution Using Sparsity and Patterns for Inference in Deep
Convolutional Neural Networks, arXiv:2104.08314.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Self

import torch
from torch import Tensor, nn

from attar.convolution import calibration
from attar.convolution.artefact import ConvolutionPlan, LayerChoice, WholeNetwork
from attar.convolution.methods import method_named
from attar.convolution.planner import RIVALS, Planner, check, confirmed, convolutions, weights_of
from attar.convolution.timing import machine
from attar.core.artefact import Origin
from attar.core.engine import Metrics
from attar.core.runtime import Runtime
from attar.core.settings import Hidden, Range, Settings
from attar.core.state import rebuilt


@dataclass
class Planning:
    """The choices so far, layer by layer as JSON, then the comparison of the whole network."""

    choices: dict[str, str]
    whole: str = ""
    done: int = 0
    network: nn.Module = rebuilt(default=None)
    described: Any = rebuilt(default=None)
    images: Tensor = rebuilt(default=None)
    held_out: Tensor = rebuilt(default=None)
    planner: Planner = rebuilt(default=None)
    source: Any = rebuilt(default=None)

    @property
    def chosen(self) -> list[LayerChoice]:
        """The choices for the layers that are done."""
        return [LayerChoice.from_json(json.loads(text)) for text in self.choices.values() if text]


@dataclass(frozen=True, kw_only=True)
class CompressConvolution(Settings):
    """Select the fastest of seven algorithms, dense and sparse, for every convolution of a trained network.

    Amer, Salamah, Sajedi and Yang, arXiv 2021, arXiv:2104.08314. A sparse kernel of attar's own is among the choices.
    Nothing is lost: the planned network computes the same function as the original network.
    """

    network: str = "convnet:norm=none,pooling=max"
    """The network, by words, which is then trained on the data; or the folder of a trained network."""
    epochs: Annotated[int, Range(1)] | None = None
    """Passes over the training data if the network is trained here. Default: 30, as for a ceiling."""
    images: Annotated[int, Range(1)] = 64
    """Number of training images on which methods are timed, and of test images on which the choice is confirmed."""
    batch: Annotated[int, Range(1)] = 1
    """Batch size of a call, in images. Times are those of a whole batch."""
    runs: Annotated[int, Range(30)] = 31
    """Number of times that each method is timed on each layer."""
    margin: Annotated[float, Range(0)] = 0.05
    """Gain in speed, as a share, above which a layer's whole 95 % interval must lie for the layer to be switched."""
    methods: tuple[str, ...] = RIVALS
    """Methods that are timed against PyTorch's convolution: packed, im2col, mec, cpo, cps, direct."""
    layers: Annotated[int, Hidden()] = 0
    """Number of convolutions of the network; it is counted, not given."""

    name = "conv"
    kind = "convolution"

    def __post_init__(self) -> None:
        super().__post_init__()
        for method in self.methods:
            method_named(method)

    def resolve(self, source: Any, runtime: Runtime) -> Self:
        """Train or find the network, and count its convolutions.

        Raises:
            InputError: The words are unknown, the folder holds no network, or the network has no convolutions.
        """
        network, _ = calibration.network_of(self.network, source, runtime, self.epochs)
        return replace(self, layers=len(convolutions(network)))

    @property
    def total_steps(self) -> int:
        """The number of steps: one for each layer, and one for the whole network."""
        return self.layers + 1

    def build(self, source: Any, runtime: Runtime) -> Planning:
        """The state before the first step: the network, and the images on which it is measured."""
        network, described = calibration.network_of(self.network, source, runtime, self.epochs)
        images, held_out = calibration.calibration(source, self.images, runtime.generator("calibration"))
        check(images, held_out, self.methods, self.batch, self.runs)
        return Planning(
            choices=dict.fromkeys(convolutions(network), ""),
            network=network,
            described=described,
            images=images,
            held_out=held_out,
            planner=Planner(self.methods, self.batch, self.runs, self.margin, runtime.say),
            source=source,
        )

    @torch.no_grad()
    def step(self, state: Planning, runtime: Runtime) -> Metrics:
        """Select the method of the next layer. The last step compares the whole and withdraws useless switches."""
        if state.done < self.layers:
            name = list(state.choices)[state.done]
            layer = convolutions(state.network)[name]
            choices = [state.planner.layer(name, state.network, layer, state.images, state.held_out)]
            runtime.say(choices[0].line())
        else:
            choices = state.chosen
            _, whole = confirmed(state.network, choices, state.held_out, self.batch, self.runs, runtime.say)
            state.whole = json.dumps(asdict(whole))
        state.choices |= {choice.name: json.dumps(asdict(choice)) for choice in choices}
        state.done += 1
        return {"switched": float(sum(choice.method != "dense" for choice in state.chosen))}

    def result(self, state: Planning, runtime: Runtime) -> ConvolutionPlan:
        """The plan of the layers that are done."""
        settings = {"methods": list(self.methods), "batch": self.batch, "runs": self.runs, "margin": self.margin}
        return ConvolutionPlan(
            layers=tuple(state.chosen),
            whole=WholeNetwork.from_json(json.loads(state.whole)) if state.whole else None,
            settings=settings,
            machine=machine(),
            weights=weights_of(state.network),
            described=state.described,
            origin=Origin.made(state.source, self, runtime),
        )
