"""The embeddings of any classifier: the input of its last linear layer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.images.networks.blocks import Embeddings, Images, Network
from attar.images.networks.outputs import logits_in, outputs_of

Embedder = Callable[[Images], Embeddings]


def embedder(network: nn.Module) -> Embedder:
    """A function from images to the embeddings of a classifier.

    Raises:
        InputError: No linear layer gives its logits. This is raised for the first images.
    """
    if isinstance(network, Network):
        return network.embed
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]

    def embed(images: Images) -> Embeddings:
        passed: list[tuple[Tensor, Tensor]] = []
        handles = [
            layer.register_forward_hook(lambda _, inputs, made: passed.append((inputs[0], made)))
            for layer in layers[-1:]
        ]
        try:
            logits = logits_in(network(images))
        finally:
            for handle in handles:
                handle.remove()
        features, made = passed[-1] if passed else (torch.empty(0), torch.empty(0))
        if features.ndim != 2 or len(features) != len(images) or made.shape[-1] != outputs_of(network, logits):
            raise InputError(
                f"no linear layer gives the logits of {type(network).__name__}, so it has no embeddings to compare. "
                "Give another network."
            )
        return features

    return embed
