"""A network that sees images scaled to the side it was trained with: `resnet18-imagenet@224` of images of any size."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.images.networks.blocks import Embeddings, Images, Maps, Network

AT_ONCE = 2**20
"""Largest number of places of the scaled images that pass at once: 20 images of 224 pixels."""


class Scaled(Network):
    """One of attar's own networks, for images of another size than its own.

    Images are scaled bicubically with antialiasing, as Pillow does, and become square. Gradients pass.

    Args:
        network: The network, for images of `side` pixels.
        side: The side of the images that it is given.
    """

    def __init__(self, network: Network, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side
        self.before_activation = tuple(f"network.{name}" for name in network.before_activation)

    @property
    def classifier(self) -> nn.Module:  # type: ignore[override]  # the same layer under one name only
        """The last layer of the network."""
        return self.network.classifier

    def features(self, images: Images) -> tuple[list[Maps], Embeddings]:
        """The features of the scaled images."""
        return self.network.features(scaled(images, self.side))

    def embed(self, images: Images) -> Embeddings:
        """The embedding. Without a gradient it is computed for a few images at a time, which are large once scaled."""
        if self.training or torch.is_grad_enabled():
            return self.network.embed(scaled(images, self.side))
        parts = images.split(max(1, AT_ONCE // self.side**2))
        return torch.cat([self.network.embed(scaled(part, self.side)) for part in parts])


def scaled(images: Images, side: int) -> Float[Tensor, "batch channel _side _side_too"]:
    """Square images of a given side, in single precision; the same ones if they have it."""
    if images.shape[2:] == (side, side):
        return images
    with torch.autocast(images.device.type, enabled=False):
        return F.interpolate(images.float(), (side, side), mode="bicubic", antialias=True, align_corners=False)
