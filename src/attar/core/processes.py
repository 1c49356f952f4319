"""Several processes that work on one run, as `accelerate launch -m attar ...` starts them.

Every process holds the same state and draws the same random numbers. The processes divide the work between two draws,
and their results are summed. The result is therefore that of one process, up to the order of summation, and any number
of processes can resume from the one checkpoint that the first process writes.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from attar.core.errors import InputError
from attar.core.launcher import size

T = TypeVar("T")


class Processes:
    """The processes of a run; here the only one."""

    rank = 0
    count = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def share(self, items: int) -> range:
        """Which of so many items this process works on."""
        return range(self.rank, items, self.count)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        return tensor

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        return here

    def collect(self, mine: list[T]) -> list[T]:
        """Bring together what `share` dealt out, in the order of the items, in every process."""
        return mine

    def once(self, action: Callable[[], T]) -> T:
        """Do something in the first process only; the others get its result, or its `InputError`."""
        return action()


class _Several(Processes):
    """One of several, joined by torch.distributed."""

    def __init__(self, *, cpu: bool) -> None:
        from accelerate import PartialState

        state = PartialState(cpu=cpu)
        self.rank, self.count = state.process_index, state.num_processes
        self.device = state.device

    def sum_(self, tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor)
        return tensor

    def any(self, here: bool) -> bool:
        return bool(self.sum_(torch.tensor(float(here), device=self.device)) > 0)

    def collect(self, mine: list[T]) -> list[T]:
        everyone: list[Any] = [None] * self.count
        dist.all_gather_object(everyone, mine)
        return [everyone[item % self.count][item // self.count] for item in range(sum(map(len, everyone)))]

    def once(self, action: Callable[[], T]) -> T:
        outcome: list[Any] = [None, None]
        if self.first:
            try:
                outcome = [action(), None]
            except InputError as error:
                outcome = [None, error]
        dist.broadcast_object_list(outcome)
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result


ALONE = Processes()


def current(*, cpu: bool) -> Processes:
    """The processes that a launcher has started this one among; itself alone where there was none."""
    return _several(cpu) if size() > 1 else ALONE


@cache
def _several(cpu: bool) -> _Several:
    return _Several(cpu=cpu)
