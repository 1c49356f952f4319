"""Convolution of sparse activations: CPO, CPS and a kernel of our own, their rivals, and a planner that chooses."""

from typing import TYPE_CHECKING

from attar.core.lazy import lazily

if TYPE_CHECKING:
    from attar.convolution.artefact import ConvolutionPlan as ConvolutionPlan
    from attar.convolution.command import CompressConvolution as CompressConvolution
    from attar.convolution.cpo import CPOConvolution as CPOConvolution
    from attar.convolution.cps import CPSConvolution as CPSConvolution
    from attar.convolution.dense import Dense as Dense
    from attar.convolution.direct import Direct as Direct
    from attar.convolution.geometry import Geometry as Geometry
    from attar.convolution.im2col import Im2col as Im2col
    from attar.convolution.interface import Convolution as Convolution
    from attar.convolution.mec import MEC as MEC
    from attar.convolution.methods import METHODS as METHODS
    from attar.convolution.methods import convolve as convolve
    from attar.convolution.packed import Packed as Packed
    from attar.convolution.planner import plan as plan
    from attar.convolution.storage import compression_ratios as compression_ratios

__getattr__, __dir__ = lazily(
    __name__,
    {
        "CPOConvolution": "attar.convolution.cpo",
        "CPSConvolution": "attar.convolution.cps",
        "CompressConvolution": "attar.convolution.command",
        "Convolution": "attar.convolution.interface",
        "ConvolutionPlan": "attar.convolution.artefact",
        "Dense": "attar.convolution.dense",
        "Direct": "attar.convolution.direct",
        "Geometry": "attar.convolution.geometry",
        "Im2col": "attar.convolution.im2col",
        "MEC": "attar.convolution.mec",
        "METHODS": "attar.convolution.methods",
        "Packed": "attar.convolution.packed",
        "compression_ratios": "attar.convolution.storage",
        "convolve": "attar.convolution.methods",
        "plan": "attar.convolution.planner",
    },
)
