"""How a run uses the machine: settings that every verb shares. Read without importing torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from attar.core.settings import Range, Settings


@dataclass(frozen=True, kw_only=True)
class Engine(Settings):
    """How a run uses the machine. None of it belongs to the science, and every verb shares it."""

    device: str = "auto"
    """Where tensors live: cpu, cuda, cuda:1, mps, or auto for a GPU when there is one (each process its own)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of passes that need no gradient (auto: bfloat16 where the hardware multiplies it natively)."""
    train_precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of passes with a gradient: networks in training, and the synthetic images."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile: auto compiles long runs where a compiler is found."""
    checkpoint_seconds: Annotated[float, Range(0)] = 20.0
    """Seconds between checkpoints: what a killed run can lose. 0 saves after every step."""
    snapshots: Annotated[int, Range(0)] = 0
    """How many evenly spaced states of the artefact to keep below run/snapshots, for choosing among them later."""
    deterministic: bool = False
    """Same bytes from the same seed on a GPU too, at some cost in speed. On a CPU it is always so."""
    tensorboard: bool = False
    """Also write the metrics for TensorBoard (needs the tensorboard package)."""
    quiet: bool = False
    """Print nothing but errors."""
