"""The planner's images and network. Only this module of the package uses labelled images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.runtime import Runtime

NETWORK = "network.safetensors"


def read(data: str) -> Any:
    """Read a labelled image set, given as for `attar.load`.

    Raises:
        InputError: The data is not an image set.
    """
    from attar.images.sources import load

    return load(data)


def network_of(words: str, source: Any, runtime: Runtime, epochs: int | None) -> tuple[nn.Module, Any]:
    """A network that is described in words and trained on a source, or a trained network in a folder.

    A network that was trained before is taken from the cache.

    Returns:
        The network on the CPU, and its description for a file of its weights.

    Raises:
        InputError: The words are unknown, the folder holds no network, or the network is for other images.
    """
    from attar.images.networks.architecture import Architecture, parse
    from attar.images.protocols import PROTOCOLS
    from attar.images.trained import found_or_trained

    folder = words if Path(words).is_dir() else None
    if folder is not None and not (Path(folder) / NETWORK).is_file():
        raise InputError(f"{folder} holds no trained network ({NETWORK}). Give another --network.")
    architecture = Architecture() if folder is not None else parse(words)
    protocol = PROTOCOLS["ceiling"]
    protocol = protocol if epochs is None else replace(protocol, epochs=epochs)
    found = found_or_trained(folder, source, architecture, runtime, protocol)
    plain = {"settings": found.method.to_json(), "shape": list(found.shape), "classes": list(found.classes)}
    return found.network.cpu().eval(), plain


def calibration(source: Any, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw training images to select methods and test images to confirm them, as network input.

    Raises:
        InputError: There are fewer than `count` training or test images.
    """
    for split, name in ((source.train, "training"), (source.test, "test")):
        if len(split) < count:
            raise InputError(f"images is {count}, but {source.name} has {len(split)} {name} images; ask for fewer.")
    drawn, tested = (torch.randperm(len(split), generator=generator)[:count] for split in (source.train, source.test))
    return source.inputs(drawn), source.transform.forward(source.test.pixels[tested])
