"""One random generator for each purpose, all made from the one seed of a run.

Nothing in attar sets a global seed or reads the clock. Every function that draws takes a generator.
"""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def derived_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose, unrelated to that of any other purpose or seed."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def uniform(seed: int, purpose: str, *shape: int) -> Float[Tensor, "..."]:
    """Uniform numbers in [0, 1) that depend on nothing but seed and purpose, whatever was drawn before.

    For what is drawn again instead of being stored: they are made of the plain output of Philox, a counter-based
    generator whose numbers no version of NumPy may change, so that they are the same anywhere.
    """
    bits = _philox(seed, purpose, math.prod(shape)) >> np.uint64(40)
    return torch.from_numpy(bits.astype(np.float32) * np.float32(2**-24)).view(shape)


def permutation(seed: int, purpose: str, count: int) -> Int[Tensor, " {count}"]:
    """A random order of so many things, drawn in the same way."""
    return torch.from_numpy(_philox(seed, purpose, count).argsort(kind="stable"))


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """PyTorch's global generator on the CPU, seeded by another one, and restored afterwards.

    For code of others that takes no generator, such as the start of a layer's weights.
    """
    with seeded_by(int(torch.randint(2**62, (), generator=generator)), torch.device("cpu")):
        yield


@contextmanager
def seeded_by(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's global generators on the CPU and on a device, with a seed, and restored afterwards.

    For draws that take no generator, such as those of dropout.
    """
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        # Not torch.manual_seed: without a GPU that notes each call, with its whole stack, for one that may come.
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def _philox(seed: int, purpose: str, count: int) -> np.ndarray:
    return np.random.Philox(key=derived_seed(seed, purpose)).random_raw(count)


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
