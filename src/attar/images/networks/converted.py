"""Networks that were trained on images normalised or whitened in one way, for images that were made in another."""

import dataclasses

import torch
from torch import nn

from attar.images.data.whiten import Transform
from attar.images.networks.blocks import Embeddings, Images, Maps, Network


class Carried(nn.Module):
    """A transform of pixels whose matrices move to a device with the network that they belong to.

    Args:
        transform: The transform.
        stored: Whether its numbers count among the tensors of the network, so that digests depend on them.
    """

    def __init__(self, transform: Transform, *, stored: bool = False) -> None:
        super().__init__()
        self.plain = dataclasses.replace(transform, whitening=None)
        self.whitening = transform.whitening
        found = matrices(transform)
        self.matrices = list(found)
        for name, matrix in found.items():
            self.register_buffer(name, matrix, persistent=stored)
        if stored:
            self.register_buffer("statistics", torch.tensor([transform.mean, transform.std]))

    @property
    def transform(self) -> Transform:
        """The transform, with its matrices where the network is."""
        if self.whitening is None:
            return self.plain
        here = {name: getattr(self, name) for name in self.matrices}
        return dataclasses.replace(self.plain, whitening=dataclasses.replace(self.whitening, **here))


class Converted(Network):
    """One of attar's own networks, for images that another transform made than the one that it was trained with."""

    def __init__(self, network: Network, given: Transform, own: Transform) -> None:
        super().__init__()
        self.network, self.classifier = network, network.classifier
        self.given, self.own = Carried(given), Carried(own, stored=True)
        self.before_activation = tuple(f"network.{name}" for name in network.before_activation)

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The features of the same pixels, transformed as the network knows them."""
        return self.network.features(converted(images, self.given, self.own))

    def embed(self, images: Images) -> Embeddings:
        """The embedding, by the network's own way."""
        return self.network.embed(converted(images, self.given, self.own))


class ConvertedModule(nn.Module):
    """The same for a module of any other kind."""

    def __init__(self, network: nn.Module, given: Transform, own: Transform) -> None:
        super().__init__()
        self.network = network
        self.given, self.own = Carried(given), Carried(own, stored=True)

    def forward(self, images: Images) -> torch.Tensor:
        """The network's answer to the same pixels, transformed as it knows them."""
        answer: torch.Tensor = self.network(converted(images, self.given, self.own))
        return answer


def converted(images: Images, given: Carried, own: Carried) -> Images:
    """Images of the same pixels by another transform, in single precision."""
    with torch.autocast(images.device.type, enabled=False):
        return own.transform.forward(given.transform.inverse(images.float()))


def for_images_of(network: nn.Module, given: Transform, own: Transform) -> nn.Module:
    """A network for images that a given transform made; the network itself if that is its own one.

    Args:
        network: A network that was trained on images by its own transform.
        given: The transform of the images that it is to take.
        own: Its own transform.
    """
    if same(given, own):
        return network
    if isinstance(network, Network):
        return Converted(network, given, own)
    return ConvertedModule(network, given, own)


def same(one: Transform, other: Transform) -> bool:
    """Whether two transforms make the same images."""
    if (one.mean, one.std) != (other.mean, other.std) or (one.whitening is None) != (other.whitening is None):
        return False
    first, second = matrices(one), matrices(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def matrices(transform: Transform) -> dict[str, torch.Tensor]:
    """The tensors of a transform's whitening by name; empty without one."""
    fields = {} if transform.whitening is None else vars(transform.whitening)
    return {name: value for name, value in fields.items() if isinstance(value, torch.Tensor)}
