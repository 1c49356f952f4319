"""The logits in whatever a network returns, and networks of which only some outputs are wanted."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.images.networks.blocks import Images, Logits, Network


def logits_in(found: Any, who: str = "network") -> Logits:
    """The logits in an output: the tensor itself, its `logits`, or the first entry of a tuple.

    Args:
        found: What a network returned.
        who: The network, for messages.

    Raises:
        InputError: There are no logits, or they are not one row of numbers for each sample.
    """
    logits = found
    if not isinstance(found, Tensor):
        logits = found.get("logits") if isinstance(found, Mapping) else getattr(found, "logits", None)
        if logits is None and isinstance(found, Sequence) and len(found):
            logits = found[0]
    if not isinstance(logits, Tensor):
        told = "None" if found is None else f"a {type(found).__name__}"
        told += f" with {', '.join(map(str, found))}" if isinstance(found, Mapping) else ""
        raise InputError(
            f"the {who} returns {told}, in which there are no logits. Give a module that returns them, or an output "
            "with `logits`."
        )
    if logits.ndim != 2 or not logits.is_floating_point():
        kind = str(logits.dtype).removeprefix("torch.")
        raise InputError(
            f"the {who} returns logits of shape {list(logits.shape)} in {kind}. Give a module that returns one row of "
            "numbers for each sample: [sample, classes]."
        )
    return logits


class Choosing(nn.Module):
    """A network of which only some outputs are wanted, in an order of their own.

    Args:
        network: The network. It is not copied.
        columns: Numbers of the wanted outputs.
    """

    columns: Tensor

    def __init__(self, network: nn.Module, columns: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("columns", torch.tensor(columns))
        self.all_outputs: int | None = None

    def forward(self, images: Images) -> Logits:
        """The wanted logits."""
        logits = logits_in(self.network(images))
        self.all_outputs = logits.shape[1]
        return logits[:, self.columns]


def choosing(network: nn.Module, columns: Sequence[int] | None) -> nn.Module:
    """A network with only these outputs, in this order: the same one if `columns` is None.

    One of attar's own networks is changed in place, so that its stages can still be compared.
    """
    if columns is None:
        return network
    if not isinstance(network, Network):
        return Choosing(network, columns)
    network.keep_outputs_(columns)
    return network


def outputs_of(network: nn.Module, logits: Logits) -> int:
    """The number of outputs of a network's last layer, of which it may return only some as these logits."""
    known = getattr(network, "all_outputs", None)
    return known if isinstance(known, int) else logits.shape[1]
