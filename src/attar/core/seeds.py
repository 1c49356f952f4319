"""One random generator per purpose, each made from the one seed of a run.

Nothing in attar seeds globally or looks at the clock: whoever draws is handed a generator.
"""

import hashlib

import torch
from torch import Tensor


def derived_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose, unrelated to that of any other purpose or seed."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Generators:
    """The generators of a run by purpose (`"start"`, `"batches"`, `"augment"`, ...), made on first use."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._made: dict[tuple[str, str], torch.Generator] = {}

    def __call__(self, purpose: str, device: str = "cpu") -> torch.Generator:
        """The generator of a purpose on a device."""
        key = (purpose, device)
        if key not in self._made:
            generator = torch.Generator(device)
            self._made[key] = generator.manual_seed(derived_seed(self.seed, purpose))
        return self._made[key]

    def state_dict(self) -> dict[str, Tensor]:
        """Where each generator stands, as bytes."""
        return {f"{purpose}@{device}": g.get_state() for (purpose, device), g in self._made.items()}

    def load_state_dict(self, states: dict[str, Tensor]) -> None:
        """Put every generator back where `state_dict` found it."""
        for name, state in states.items():
            purpose, device = name.rsplit("@", 1)
            self(purpose, device).set_state(state)
