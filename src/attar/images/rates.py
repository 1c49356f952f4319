"""The step size of networks that are trained on a set with a learned step size: one rule for every set and protocol.

Trajectory matching learns β, the step size of its students, together with the images. The field evaluates such a set
with β in place of the protocol's step size (MTT, Cazenavette et al., CVPR 2022, arXiv:2203.11932). Its protocol is
`field`. A protocol of SGD that trains n times as fast as `field` trains n times as fast with β too. Other optimisers
have step sizes of another kind, so their protocols keep their own.
"""

from dataclasses import replace

from attar.core.errors import InputError
from attar.images.protocols import PROTOCOLS, Protocol

SMALLEST, LARGEST = 1e-8, 1e6
"""Bounds of a step size. Below the first, a step does not change parameters in single precision."""
AT_THE_SETS = ", at the set's step size"
"""What is added to the name of images that are trained at the step size of another set."""


def factor(protocol: Protocol) -> float:
    """How many times as fast as `field` a protocol trains."""
    return protocol.lr / PROTOCOLS["field"].lr


def uses(protocol: Protocol, learned: float | None) -> bool:
    """Whether a learned step size takes part in a protocol."""
    return learned is not None and protocol.optimizer == "sgd"


def trained_at(protocol: Protocol, learned: float | None) -> Protocol:
    """The protocol with the step size for a set.

    Args:
        protocol: The protocol. Its own step size is for sets that have learned none.
        learned: β of the set, if it has one.

    Raises:
        InputError: No network can be trained with β: it is not positive, not finite, or of an impossible size.
    """
    if learned is None or not uses(protocol, learned):
        return protocol
    rate = learned * factor(protocol)
    if not SMALLEST <= rate <= LARGEST:
        raise InputError(
            f"the set's learned step size is {learned:.3g}, and no network can be trained with that. Condense the set "
            "again with --learn-lr log; if it was imported, import it again with a --lr of its own."
        )
    return replace(protocol, lr=rate)


def note(protocol: Protocol, learned: float | None) -> str:
    """What a score says of a set's learned step size; nothing if the set has none."""
    if learned is None:
        return ""
    if not uses(protocol, learned):
        return f"learned step size {learned:.3g} not used"
    times = factor(protocol)
    return f"learned step size {learned:.3g}" + (f" × {times:.3g}" if times != 1 else "")
