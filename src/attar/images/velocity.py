"""Kernel velocity: the speed at which a network's tangent kernel changes while it trains on a condensed set.

J_t is the derivative of a network's logits for some probe images with respect to its parameters. K_t = J_t J_tᵀ is the
empirical tangent kernel, S(t, t') = 1 - tr(K_t K_t'ᵀ) / (‖K_t‖ ‖K_t'‖) the distance of two kernels, and
v(t) = S(t, t + Δt) / Δt the velocity. Fort et al., Deep Learning versus Kernel Learning, NeurIPS 2020,
arXiv:2010.15110. DCC's paper uses a kernel velocity to describe its loss. We could not verify that it is this one.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev, vmap

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.images.artefact import CondensedImages
from attar.images.networks.architecture import Architecture, mixes_images
from attar.images.networks.flat import FlatNetwork, Images, Vector
from attar.images.protocols import Protocol
from attar.images.rates import trained_at
from attar.images.sources import ImageSource
from attar.images.training import TrainNetwork

Kernel = Float[Tensor, "answer answer"]
PROBES = 50
"""Number of test images on which the kernel is computed."""


def tangent_kernel(flat: FlatNetwork, vector: Vector, probes: Images) -> Kernel:
    """The tangent kernel K = J Jᵀ over all logits of all probe images."""

    def answers(vector: Vector, image: Tensor) -> Tensor:
        return flat.logits(vector, image.unsqueeze(0)).squeeze(0)

    slopes = vmap(jacrev(answers), in_dims=(None, 0))(vector, probes).flatten(0, 1)
    return slopes @ slopes.T


def kernel_distance(first: Kernel, second: Kernel) -> Float[Tensor, ""]:
    """The distance S = 1 - tr(K K'ᵀ) / (‖K‖ ‖K'‖), which is 0 for kernels that differ only in scale."""
    return 1 - (first * second).sum() / (first.norm() * second.norm())


def kernel_velocity(
    small: CondensedImages,
    source: ImageSource,
    architecture: Architecture,
    protocol: Protocol,
    epochs: Sequence[int],
    runtime: Runtime,
    *,
    probes: int = PROBES,
) -> list[float]:
    """The kernel velocity at some epochs of training on a condensed set: the distance to the next epoch's kernel.

    Args:
        small: The condensed set.
        source: The source of the probe images, which are test images drawn at random.
        architecture: The network, without batch norm.
        protocol: The protocol of training, which stops after the last of the epochs.
        epochs: The epochs, in rising order.
        runtime: The machine and the seed.
        probes: The number of probe images.

    Raises:
        InputError: The network has batch norm, whose statistics are not parameters.
    """
    generator = torch.Generator().manual_seed(derived_seed(runtime.seed, "probes"))
    rows = torch.randperm(len(source.test), generator=generator)[:probes]
    images = small.transform.forward(source.test.pixels[rows]).to(runtime.device)
    last = max(epochs) + 1
    method = TrainNetwork(
        architecture=architecture, protocol=replace(trained_at(protocol, small.lr), epochs=max(protocol.epochs, last))
    )
    method = method.resolve(small)
    state = method.build(small, runtime)
    if mixes_images(state.network):
        raise InputError("a tangent kernel covers parameters, but batch norm also has statistics. Use another norm.")
    kernels: dict[int, Kernel] = {}
    wanted = {epoch + after for epoch in epochs for after in (0, 1)}
    for epoch in range(last + 1):
        if epoch in wanted:
            kernels[epoch] = _kernel_now(state.network, images)
        if epoch < last:
            for _ in range(method.batches):
                method.step(state, runtime)
    return [float(kernel_distance(kernels[epoch], kernels[epoch + 1])) for epoch in epochs]


def _kernel_now(network: torch.nn.Module, images: Images) -> Kernel:
    """The kernel of a network during training, which then continues unchanged."""
    flat = FlatNetwork(network)
    kernel = tangent_kernel(flat, flat.vector(), images)
    network.requires_grad_(True)
    return kernel
