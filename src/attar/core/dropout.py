"""Dropout before the last layer of a network, with one or several masks in one pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core import sharing
from attar.core.seeds import seeded_by


def masked(features: Float[Tensor, "..."], p: float, samples: int) -> Float[Tensor, "samples ..."]:
    """The same features under several independent masks of dropout, drawn from PyTorch's global generator.

    What is kept is divided by 1 - p, so that the mean over masks is the features. Of a batch that several processes
    share, each has its rows of the same masks.

    Args:
        features: One row for each sample.
        p: Share of the features that is dropped.
        samples: Number of masks.
    """
    share = sharing.current()
    if share is None:
        return F.dropout(features.expand(samples, *features.shape), p)
    whole = features.new_ones(share.rows, *features.shape[1:]).expand(samples, share.rows, *features.shape[1:])
    return features * share.mask(whole, p, axis=1)


def drawing(generator: torch.Generator, device: torch.device) -> AbstractContextManager[None]:
    """PyTorch's global generators, from which dropout draws, seeded by another one, and restored afterwards.

    Args:
        generator: A generator on the CPU.
        device: Where masks are drawn.
    """
    return seeded_by(int(torch.randint(2**62, (), generator=generator)), device)


class Masked:
    """What a layer gave in its last call under several masks."""

    branches: Tensor | None = None
    """Its output under each mask, `[masks, ...]`."""
    mean: Tensor | None = None
    """Their mean, which the layer returned."""


@contextmanager
def dropping(layer: nn.Linear, p: float, samples: int) -> Iterator[Masked]:
    """For a while, drop parts of the input of a layer in training: several masks in each call, computed together.

    The layer returns the mean over masks. Hooks on it still see its whole input. In evaluation mode nothing is dropped.

    Args:
        layer: The layer.
        p: Share of its input that is dropped.
        samples: Number of masks.
    """
    found, before = Masked(), vars(layer).get("forward")
    plain = layer.forward

    def forward(input: Tensor) -> Tensor:  # noqa: A002
        if not layer.training:
            return plain(input)
        branches = plain(masked(input, p, samples))
        found.branches, found.mean = branches, branches.mean(dim=0)
        return found.mean

    # Not a hook: the input that hooks are shown must stay whole.
    layer.forward = forward  # type: ignore[method-assign]
    try:
        yield found
    finally:
        if before is None:
            del layer.forward
        else:
            layer.forward = before  # type: ignore[method-assign]
