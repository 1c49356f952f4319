"""What several processes print when one of them cannot continue: one line.

What is wrong in all of them, the first one prints. A process that fails alone sees that the first one does not fail,
and prints its reason itself. It says so in the store in which the processes met, so that the first one, which notices
that another has ended, has nothing to add.
"""

import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any

from attar.core.launcher import speaks

LATE = timedelta(seconds=5)
"""How much later the first process may meet the same failure."""
STAYS = timedelta(seconds=2)
"""How long the first process, which may hold the store, stays for the others after a failure."""
FAILED, PRINTED = "failed", "printed"


def message(line: str, *, lost: bool) -> str | None:
    """What this process prints after a failure. None: another process prints it.

    Args:
        line: What went wrong here.
        lost: Whether nothing is wrong here but that another process has ended.
    """
    store, rank, count = _meeting()
    if store is None:
        return line if speaks() else None
    try:
        if rank == 0:
            return None if lost and _printed(store, count) else line
        return _of_other(store, line, rank, count, lost)
    except RuntimeError:  # the store has ended with the first process
        return line if rank == 0 or (lost and rank == 1) else None


def leave() -> None:
    """In the first process, let the others know of the failure, before the store ends with it."""
    store, rank, count = _meeting()
    if store is not None and rank == 0:
        with suppress(RuntimeError):
            store.set(_place(0), FAILED)
            store.wait([_place(other) for other in range(1, count)], STAYS)


def _of_other(store: Any, line: str, rank: int, count: int, lost: bool) -> str | None:
    import torch.distributed as dist

    store.set(_place(rank), FAILED)
    try:
        store.wait([_place(0)], LATE)
        return None
    except dist.DistStoreError:  # the first process has been killed, works, or waits
        if lost and (rank > 1 or _printed(store, count)):
            return None
    store.set(_place(rank), PRINTED)
    return line if lost else f"process {rank} of {count}: {line}"


def _printed(store: Any, count: int) -> bool:
    """Whether another process than the first has printed why it ended."""
    places = [_place(other) for other in range(1, count)]
    return any(store.check([place]) and store.get(place).decode() == PRINTED for place in places)


def _place(rank: int) -> str:
    return f"attar/{rank}"


def _meeting() -> tuple[Any, int, int]:
    """The store in which the processes met, this one's rank, and their number. No store if they have not met."""
    if "torch.distributed" in sys.modules:  # which takes seconds to import
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            return dist.distributed_c10d._get_default_store(), dist.get_rank(), dist.get_world_size()
    return None, 0, 1
