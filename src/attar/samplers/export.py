"""The network of a sampler in its folder: safetensors, and for a U-Net the folders that diffusers opens."""

from pathlib import Path
from typing import Any

from torch import nn

from attar.core import artefact as core
from attar.core import store
from attar.core.errors import InputError
from attar.core.seeds import Generators
from attar.samplers.networks import network_named

WEIGHTS = "sampler.safetensors"


def write_network(folder: Path, made: Any) -> dict[str, Any]:
    """Write the parameters of a `Sampler`, and return what `artefact.json` says of them.

    Raises:
        InputError: The network is a module of the caller's own, which nothing could build again.
    """
    if made.network is None:
        raise InputError("a sampler with a network of one's own cannot be saved: name the network by words.")
    return {"digest": store.write_tensors(folder / WEIGHTS, made.denoiser.network.state_dict(), {})}


def read_network(folder: Path, facts: dict[str, Any], shape: tuple[int, ...], classes: int) -> nn.Module:
    """The inverse of `write_network`."""
    tensors, _ = core.read_tensors(folder / WEIGHTS, facts["digest"])
    network = network_named(facts["network"], shape, classes, Generators(0)("network"))
    network.load_state_dict(tensors)
    return network
