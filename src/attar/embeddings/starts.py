"""What attar has saved as the start of an encoder: trained encoders, students of distillation, auxiliary networks."""

import copy
from pathlib import Path
from typing import Any

from attar.core.errors import InputError
from attar.core.kinds import kind_in
from attar.core.provenance import ARTEFACT
from attar.embeddings.encoders import Adapted, Encoder, Pooled
from attar.embeddings.sources import Standard
from attar.images.data.whiten import Transform
from attar.images.networks.architecture import Architecture
from attar.images.networks.blocks import Network
from attar.images.networks.converted import same
from attar.images.training import TrainedNetwork

NETWORK = "network.safetensors"
Normalise = Transform | Standard


def started(folder: Path, shape: tuple[int, ...], normalise: Normalise, name: str) -> Encoder:
    """The encoder of what attar has saved in a folder, with its weights, for samples that are normalised in some way.

    Args:
        folder: The folder of a trained encoder, of a distilled classifier, or of a trained network.
        shape: The shape of a sample.
        normalise: What makes network input of samples.
        name: The data's name, for messages.

    Raises:
        InputError: There is no network in the folder, it takes other samples, or only its maker can build it.
    """
    encoder, own_shape, own = _found(folder)
    if own_shape != shape:
        told = "×".join(map(str, own_shape))
        raise InputError(
            f"the network in {folder} takes {told}, but a sample of {name} is {'×'.join(map(str, shape))}."
        )
    return adapted(encoder, normalise, own, str(folder))


def adapted(encoder: Encoder, given: Normalise, own: Normalise | None, who: str) -> Encoder:
    """An encoder for samples that another normalisation made than its own.

    Args:
        encoder: The encoder.
        given: What makes network input of the samples.
        own: What made it of those that the encoder was trained on; None if nothing tells.
        who: Where it was found, for messages.

    Raises:
        InputError: One of the two whitens images, and the other does not do the same.
    """
    if own is None or _alike(given, own):
        return encoder
    if getattr(given, "whitening", None) is not None or getattr(own, "whitening", None) is not None:
        raise InputError(f"the network in {who} was trained on images that were whitened in another way. Use the same.")
    pairs = list(zip(given.mean, given.std, own.mean, own.std, strict=True))
    return Adapted(encoder, [g / o for _, g, _, o in pairs], [(m - n) / o for m, _, n, o in pairs])


def _alike(given: Normalise, own: Normalise) -> bool:
    if isinstance(given, Transform) and isinstance(own, Transform):
        return same(given, own)
    return given == own


def _found(folder: Path) -> tuple[Encoder, tuple[int, ...], Normalise | None]:
    """The encoder in a folder, the shape of its samples, and their normalisation, if it is known."""
    kind = kind_in(folder)
    if kind is not None:
        found = kind.load(folder)
        if isinstance(getattr(found, "encoder", None), Encoder):
            return copy.deepcopy(found.encoder), found.shape, found.normalise
        network, words = getattr(found, "network", None), getattr(found, "student", None)
        if isinstance(network, Network) and words:
            return Pooled(network, words, found.shape), found.shape, found.transform
        raise InputError(
            f"{folder} holds an artefact of the kind {found.kind}, which has no network of attar's own to start from."
        )
    if (folder / NETWORK).exists():
        found = TrainedNetwork.load(folder)
        return Pooled(_network(found.network), words_of(found.method.architecture), found.shape), found.shape, None
    raise InputError(f"{folder} holds nothing that attar has saved with a network; give a folder with {ARTEFACT}.")


def _network(network: Any) -> Network:
    assert isinstance(network, Network)
    return network


def words_of(architecture: Architecture) -> str:
    """The words of an architecture: convnet:norm=batch,width=64."""
    usual = Architecture().to_json()
    values = {key: value for key, value in architecture.to_json().items() if key != "network" and value != usual[key]}
    rest = ",".join(f"{key}={value}" for key, value in values.items())
    return f"{architecture.network}:{rest}" if rest else architecture.network
