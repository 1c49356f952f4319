"""Several teachers as one: the logarithm of their mean probabilities, or their mean logits, each with a weight.

The mean of probabilities is what an ensemble answers. In a mean of logits a network with sharp answers counts more.
You, Xu, Xu and Tao take the mean of softened probabilities (Learning from Multiple Teacher Networks, KDD 2017).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.images.networks.blocks import Images, Logits
from attar.images.networks.outputs import logits_in
from attar.images.networks.pretrained import Telling

Combine = Literal["probabilities", "logits"]


class Averaged(Telling):
    """Classifiers of the same classes whose answers are averaged. There is no embedding and there are no stages.

    Args:
        networks: The classifiers. They are not copied.
        weights: A weight for each; they sum to one.
        combine: What is averaged.
    """

    weights: Tensor

    def __init__(self, networks: Sequence[nn.Module], weights: Float[Tensor, " network"], combine: Combine) -> None:
        super().__init__()
        self.networks, self.combine = nn.ModuleList(networks), combine
        self.register_buffer("weights", weights)

    @property
    def facts(self) -> dict[str, Any]:
        """What is averaged."""
        return {"combine": self.combine}

    def forward(self, images: Images) -> Logits:
        """The logits of images."""
        answers = torch.stack([logits_in(network(images), "teacher").float() for network in self.networks])
        return mixed(answers, self.weights, self.combine)


def mixed(
    logits: Float[Tensor, "network sample classes"], weights: Float[Tensor, " network"], combine: Combine
) -> Float[Tensor, "sample classes"]:
    """Log Σ_t w_t softmax(z_t), or Σ_t w_t z_t."""
    each = weights.to(logits).view(-1, 1, 1)
    if combine == "logits":
        return (each * logits).sum(dim=0)
    return (logits.log_softmax(dim=2) + each.log()).logsumexp(dim=0)


def averaged(networks: Sequence[nn.Module], weights: Sequence[float], combine: Combine) -> nn.Module:
    """Several classifiers as one; the classifier itself where only one has a weight.

    Raises:
        InputError: The weights are not one for each, one is negative or not finite, or all are zero.
    """
    if weights and len(weights) != len(networks):
        raise InputError(f"teachers: {len(networks)}, but weights: {len(weights)}. Give one weight for each teacher.")
    given = torch.tensor(weights or [1.0] * len(networks))
    if not (given.isfinite().all() and given.min() >= 0):
        raise InputError(f"weights of the teachers are {list(weights)}. Give finite numbers, 0 or more.")
    if not given.sum() > 0:
        raise InputError("all weights of the teachers are 0. Give one of them a weight.")
    kept = [place for place, weight in enumerate(given.tolist()) if weight > 0]
    if len(kept) == 1:
        return networks[kept[0]]
    return Averaged([networks[place] for place in kept], given[kept] / given.sum(), combine).eval()
