"""The settings of how a run uses the machine, which every verb has. This file does not import torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from attar.core.settings import Range, Settings


@dataclass(frozen=True, kw_only=True)
class Engine(Settings):
    """How a run uses the machine. Every verb has these settings; none of them belongs to the science."""

    device: str = "auto"
    """Device of the tensors: cpu, cuda, cuda:1, mps or auto. auto takes a GPU if there is one (on a Mac: mps), one for
    each process."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of passes without a gradient. auto takes bfloat16 if the hardware multiplies it natively."""
    train_precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of passes with a gradient: those that train networks or synthetic images."""
    tf32: bool = True
    """Whether a GPU multiplies float32 in TensorFloat-32, with ten bits of precision. False is exact, and slower."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether to use torch.compile. auto compiles long runs if a compiler is found."""
    cuda_graphs: bool = False
    """Whether what is compiled for a GPU is recorded as CUDA graphs: quicker steps of small networks, more memory."""
    checkpoint_seconds: Annotated[float, Range(0)] | None = None
    """Seconds between checkpoints, the most work that a killed run loses. 0 saves after every step. Default: 20, or
    longer, so that checkpoints take at most 5 % of the time."""
    snapshots: Annotated[int, Range(0)] = 0
    """Number of evenly spaced states of the artefact to keep in run/snapshots, to choose among them later."""
    deterministic: bool = False
    """Whether the same seed gives the same bytes on a GPU too, at some cost in speed. A CPU needs as many threads."""
    tensorboard: bool = False
    """Whether to write the metrics for TensorBoard too. This needs the tensorboard package."""
    quiet: bool = False
    """Whether to print errors only."""
