"""The queue of momentum contrast: keys of earlier batches, to be contrasted with."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.precision import at_least_float32


class MomentumQueue(nn.Module):
    """The latest keys, of length one, in a ring of buffers that a checkpoint holds. It starts with random directions.

    A batch that runs over the end goes on at the beginning. Of one that is longer than the queue, the last keys stay.
    Keys that are not finite leave the old ones in their places, so that their step can be skipped.

    Args:
        size: Number of keys.
        width: Size of a key.
        generator: Where the first keys are drawn from. Default: the global generator.

    Raises:
        InputError: Keys of no number, or no keys.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, size: int, width: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if size < 1 or width < 1:
            raise InputError(f"a queue of {size} keys of {width} numbers holds nothing; give at least 1 of both.")
        self.register_buffer("keys", F.normalize(torch.randn(size, width, generator=generator)))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def add_(self, keys: Float[Tensor, "sample d"]) -> None:
        """Put keys in the place of the oldest ones."""
        size, count = len(self.keys), len(keys)
        numbers = torch.arange(max(0, count - size), count, device=keys.device)
        places = (self.pointer + numbers) % size
        latest = F.normalize(at_least_float32(keys.detach()))[numbers].to(self.keys.dtype)
        self.keys[places] = torch.where(latest.isfinite(), latest, self.keys[places])
        self.pointer.copy_((self.pointer + count) % size)
