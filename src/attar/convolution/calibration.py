"""Where the planner's images and network come from: the one place at which convolutions meet labelled images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.runtime import Runtime

NETWORK = "network.safetensors"


def read(data: str) -> Any:
    """A labelled image set, as `attar.load` takes it.

    Raises:
        InputError: What it names is no image set.
    """
    from attar.images.sources import load

    return load(data)


def network_of(words: str, source: Any, runtime: Runtime, epochs: int | None) -> tuple[nn.Module, Any]:
    """A network by its words, trained on a source (from the cache, or now), or one that lies in a folder.

    Returns:
        The network on the CPU, and what a file of its weights says of it.

    Raises:
        InputError: Unknown words, an empty folder, or a network of other images.
    """
    from attar.images.networks.architecture import Architecture, parse
    from attar.images.protocols import PROTOCOLS
    from attar.images.trained import found_or_trained

    folder = words if Path(words).is_dir() else None
    if folder is not None and not (Path(folder) / NETWORK).is_file():
        raise InputError(f"{folder} holds no trained network ({NETWORK}).")
    architecture = Architecture() if folder is not None else parse(words)
    protocol = PROTOCOLS["ceiling"]
    protocol = protocol if epochs is None else replace(protocol, epochs=epochs)
    found = found_or_trained(folder, source, architecture, runtime, protocol)
    plain = {"settings": found.method.to_json(), "shape": list(found.shape), "classes": list(found.classes)}
    return found.network.cpu().eval(), plain


def calibration(source: Any, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Training images to choose on and test images to confirm on, drawn, as network input.

    Raises:
        InputError: Fewer than so many of either.
    """
    for split, name in ((source.train, "training"), (source.test, "test")):
        if len(split) < count:
            raise InputError(f"images is {count}, but {source.name} has {len(split)} {name} images; ask for fewer.")
    drawn, tested = (torch.randperm(len(split), generator=generator)[:count] for split in (source.train, source.test))
    return source.inputs(drawn), source.transform.forward(source.test.pixels[tested])
