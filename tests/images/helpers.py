"""A small network, a short protocol, and a training by hand."""

import pytest
import torch

from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol

NARROW = Architecture(width=8)
PLAIN = Protocol(name="plain", epochs=3, batch=16, augmented=False)


def train(method, examples, runtime):
    """The state after every step, and each step's loss."""
    method = method.resolve(examples, runtime)
    state = method.build(examples, runtime)
    return state, [float(method.step(state, runtime)["loss"]) for _ in range(method.total_steps)]


def parameters(network):
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def assert_same(first, second, **tolerance):
    torch.testing.assert_close(parameters(first), parameters(second), **tolerance)


def save_classifier(folder, classes):
    """A classifier of transformers for grey images, never trained, in a folder; skips where transformers is missing."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    config = transformers.ResNetConfig(**sizes, num_labels=classes, num_channels=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ResNetForImageClassification(config).save_pretrained(folder)
