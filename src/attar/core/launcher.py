"""The rank of this process and the number of processes, from the launcher's variables, without importing torch."""

import os
from collections.abc import Sequence

RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where torchrun and accelerate, and MPI's launchers, leave the two numbers."""


def rank() -> int:
    """The number of this process, from 0."""
    return _first_of(RANKS, 0)


def size() -> int:
    """How many processes were launched together."""
    return _first_of(SIZES, 1)


def _first_of(names: Sequence[str], otherwise: int) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), otherwise)
