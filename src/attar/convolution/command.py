"""The planner as a command: `attar compress conv --data DATA --network NETWORK`.

For a ReLU network that runs on CPUs as it is, and has to be faster without becoming another one. It pays where maps are
small or mostly zero; the plan says by how much, and what stays dense and why.
Amer, Salamah, Sajedi and Yang, High Performance Convolution Using Sparsity and Patterns for Inference in Deep
Convolutional Neural Networks, arXiv:2104.08314.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any

from attar.convolution import calibration
from attar.convolution.artefact import ConvolutionPlan
from attar.convolution.methods import method_named
from attar.convolution.planner import RIVALS, plan
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings


@dataclass(frozen=True, kw_only=True)
class CompressConvolution(Settings):
    """Choose for every convolution of a trained network the fastest of seven ways, dense and sparse.

    Amer, Salamah, Sajedi and Yang, arXiv 2021, arXiv:2104.08314, with a sparse kernel of attar's own among the choices.
    Nothing is lost: the network that comes out computes what went in.
    """

    network: str = "convnet:norm=none,pooling=max"
    """What is planned: a network of the field by its words, trained on the data, or the folder of a trained one."""
    epochs: Annotated[int, Range(1)] | None = None
    """Epochs of that training; those of the full-data protocol (30) unless given."""
    images: Annotated[int, Range(1)] = 64
    """Training images on which methods are timed, and as many test images on which the choice is confirmed."""
    batch: Annotated[int, Range(1)] = 1
    """Images of a call; times are those of a whole batch."""
    runs: Annotated[int, Range(30)] = 31
    """How often each method is timed on each layer."""
    margin: Annotated[float, Range(0)] = 0.05
    """Gain, as a share, that a layer must surely have to be switched."""
    methods: tuple[str, ...] = RIVALS
    """What is timed against PyTorch's convolution: packed, im2col, mec, cpo, cps, direct."""

    name = "conv"

    def __post_init__(self) -> None:
        super().__post_init__()
        for method in self.methods:
            method_named(method)

    def open(self, data: str) -> Any:
        """The images, as `attar.load` takes them."""
        return calibration.read(data)

    def compress(self, source: Any, runtime: Runtime) -> ConvolutionPlan:
        """Train or find the network, and plan it."""
        network, described = calibration.network_of(self.network, source, runtime, self.epochs)
        images, held_out = calibration.calibration(source, self.images, runtime.generator("calibration"))
        settings = {"methods": self.methods, "batch": self.batch, "runs": self.runs, "margin": self.margin}
        _, made = plan(network, images, held_out=held_out, say=runtime.say, **settings)  # type: ignore[arg-type]
        origin = {"data": source.name, "fingerprint": source.fingerprint, "seed": runtime.seed}
        return replace(made, described=described, origin={**origin, "method": self.name, "network": self.network})
