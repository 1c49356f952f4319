"""A small network, a short protocol, and a training by hand."""

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
